/** `clawnode simulate`: verdicts over a file or standard input, without an agent. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { simulate } from '../../src/surfaces/cli/simulate.ts';
import { clawnode } from './cli-process.ts';

const directory = await mkdtemp(join(tmpdir(), 'claw-simulate-'));
after(() => rm(directory, { recursive: true }));
const env = { CLAWNODE_SOCKET: join(directory, 'no-agent') };

const YAML = `workloads:
  - {name: web, labels: {app: web}}
  - {name: other}
  - {name: db, labels: {app: db}, ports: [{name: sql, port: 5432}]}
policies:
  - {name: db, selector: {app: db}, ingress: [{port: 5432, from: {selector: {app: web}}}]}
probes:
  - {from: default/web, to: default/db, port: sql}
  - {from: other, to: db, port: 5432}
`;

test('a table of verdicts, with the reason of each, from a file of YAML', async () => {
  const file = join(directory, 'question.yaml');
  await writeFile(file, YAML);
  const { exitCode, stdout, stderr } = await clawnode(['simulate', '-f', file], { env });
  assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' });
  assert.equal(
    stdout,
    `FROM         TO          PORT      VERDICT  REASON
default/web  default/db  tcp sql   allow    ingress[0] of policy default/db allows default/web on tcp 5432
other        db          tcp 5432  deny     policy default/db isolates the ingress of default/db, and its only rule (tcp 5432 from workloads with app=web) does not allow default/other on tcp 5432

1 allowed, 1 denied
`,
  );
});

test('JSON from standard input, with a manifest, and the answer as it is with --json', async () => {
  const manifest = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: clawbernetes.io/v1
kind: NetworkPolicy
metadata: {name: node}
spec: {ingress: [{from: {entity: host}}]}
`;
  const input = JSON.stringify({ workloads: [{ name: 'a', ports: [{ port: 80 }] }, { name: 'b' }], manifest }, null, '\t');
  const { exitCode, stdout, stderr } = await clawnode(['simulate', '--file', '-', '--json'], { env, input });
  assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' });
  const { results } = JSON.parse(stdout);
  assert.deepEqual(results.map(({ from, to, verdict }: Record<string, unknown>) => [from, to, verdict]), [['default/a', 'default/a', 'allow'], ['default/b', 'default/a', 'deny']]);
  assert.deepEqual(Object.keys(results[0]), ['from', 'to', 'port', 'protocol', 'ingress', 'egress', 'verdict', 'reason']);
});

test('a wrong question is an error as JSON, and exit code 1', async () => {
  const cases = [
    { input: '{"workloads": [{"name": "A_"}]}', path: 'workloads[0].name' },
    { input: '{"workload": []}', path: 'workload' },
    { input: '- a', path: undefined },
    { input: 'workloads: [{name: a}]\npolicies: [{name: p, ingress: [{port: 80, endPort: 79}]}]', path: 'policies[0].ingress[0].endPort' },
    { input: 'manifest: |\n  apiVersion: v1\n  kind: Service\n  metadata: {name: x}\n', path: 'manifest[0].kind' },
    { input: 'workloads: [{name: a}]\nprobes: [{from: a, to: nobody, port: 1}]', path: 'probes[0].to' },
    { input: 'a: [1', path: 'file' },
  ];
  for (const { input, path } of cases) {
    const { exitCode, stdout, stderr } = await clawnode(['simulate', '-f', '-'], { env, input });
    const error = JSON.parse(stderr);
    assert.deepEqual({ exitCode, stdout, path: error.path, hint: 'hint' in error }, { exitCode: 1, stdout: '', path, hint: true }, stderr);
  }
  const none = await clawnode(['simulate', '-f', join(directory, 'none')], { env });
  assert.deepEqual({ exitCode: none.exitCode, path: JSON.parse(none.stderr).path }, { exitCode: 1, path: 'file' });
});

test('the example of its help is a question', async () => {
  const example = simulate.help.split('For example\n')[1]?.split('Without probes')[0] ?? '';
  const { exitCode, stdout, stderr } = await clawnode(['simulate', '-f', '-'], { env, input: example });
  assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' });
  assert.match(stdout, /1 denied\n$/);
});
