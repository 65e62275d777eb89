/** Every example of SKILL.md is run in a sandbox, from top to bottom, and its patterns lead to what they promise. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openSandbox } from '../../src/sandbox/sandbox.ts';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { ask } from '../../src/surfaces/cli/demo-requests.ts';
import { eventually } from '../cli/sandbox-fixture.ts';
import { readSkill, skillExamples, withThisNode, type SkillExample } from '../tools/skill-examples.ts';

const never = new AbortController().signal;

test('SKILL.md, run from top to bottom', async (t) => {
  const sandbox = await openSandbox({}, never);
  t.after(sandbox.close);
  const { invoke } = connectAgent(sandbox.socketPath, { surface: 'mcp' });
  const answers = new Map<string, unknown>();
  const refusals: string[] = [];
  for (const example of skillExamples(await readSkill())) {
    if (needsHost(example)) {
      // A sandbox says so, and holds nothing of it; on a host these are run by the tests of containers and attached networks.
      const refusal = await invoke(example.command, example.params, never).then(() => 'done', (error: unknown) => field(JSON.parse(JSON.stringify(error)), 'code'));
      refusals.push(`${example.command} ${String(refusal)}`);
      continue;
    }
    const answer = await invoke(example.command, withThisNode(example), never).catch((error: unknown) =>
      assert.fail(`under "${example.section}": ${example.command} ${JSON.stringify(example.params)}: ${JSON.stringify(error)}`),
    );
    answers.set(`${example.section}: ${example.command}`, answer);
    if (example.section === 'Expose a web service with load balancing' && example.command === 'service.endpoints') {
      assert.equal(field(answer, 'total'), 2);
      const target = { url: `${sandbox.ingressUrl}/`, host: 'www.example.com' };
      await eventually(() => ask(target, never).catch(String), (seen) => /^web-[12]$/.test(seen));
    }
  }
  assert.deepEqual(refusals, ['workload.run NOT_SUPPORTED', 'workload.attach NOT_SUPPORTED', 'workload.attach INVALID_ARGUMENT', 'workload.detach WORKLOAD_NOT_FOUND']);
  assert.equal(field(answers.get('Replace a version without losing a request: service.endpoints'), 'total'), 3);
  assert.match(JSON.stringify(answers.get('Several services behind one host: ingress.get')), /"path":"\/auth"/);
  assert.equal(field(answers.get('Move traffic back and forth: service.update'), 'success'), true);
  assert.equal(field(answers.get('Isolate a database: network.explain'), 'verdict'), 'deny');
  assert.deepEqual(field(answers.get('Isolate a database: network.probe'), 'reachable'), false);
  assert.equal(field(answers.get('Workloads: workload.stop'), 'stopped'), true);
  assert.equal(field(answers.get('Status: network.status'), 'mode'), 'sandbox');
});

/** Containers, and networks that somebody else made. */
function needsHost({ command, params }: SkillExample): boolean {
  return field(params, 'image') !== undefined || command === 'workload.attach' || command === 'workload.detach';
}

function field(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Object.entries(value).find(([name]) => name === key)?.[1] : undefined;
}
