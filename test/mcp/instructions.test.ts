/** What the server says of itself: whose network it is, and only of tools that it lists. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instructions } from '../../src/surfaces/mcp-instructions.ts';
import { toolsInScope, type ToolScope } from '../../src/surfaces/tool-scope.ts';
import { TOOLSET_CHOICES } from '../../tools/define.ts';
import { tools } from '../../tools/index.ts';
import { openSession } from './client.ts';

const introduction = 'You program node n1.';

function told(scope: ToolScope = {}): string {
  return instructions({ introduction, scope });
}

test('a client reads whose network it is before anything else', async () => {
  const sandbox = 'You speak for a private sandbox; its ingress is http://127.0.0.1:8444.';
  await using session = await openSession({ introduction: sandbox, toolsets: ['services'] });
  const text = session.client.getInstructions() ?? '';
  assert.ok(text.startsWith(`${sandbox} `), text);
  assert.equal(text, instructions({ introduction: sandbox, scope: { toolsets: ['services'] } }));
});

test('what the introduction repeats from outside is stripped', () => {
  const text = instructions({ introduction: 'You program node n\u001B[31m1\u202E\n.', scope: {} });
  assert.ok(text.startsWith('You program node n1 . The tools'), text);
});

test('they are short, and tell the whole first pattern when all tools are listed', () => {
  assert.ok(told().length < 1_250, `${told().length} characters`);
  assert.ok(told({ toolsets: ['default'] }).length < 1_400, `${told({ toolsets: ['default'] }).length} characters`);
  assert.match(told(), /To publish an app: workload_run with labels, service_create with the same labels as selector, ingress_create naming the service/);
});

test('in every scope they name listed tools alone, by the listed names', () => {
  const names = tools.map(({ toolName }) => toolName);
  for (const scope of everyScope()) {
    const listed = new Set(toolsInScope(scope).map(({ toolName }) => toolName));
    const text = told(scope);
    const named = names.filter((name) => new RegExp(`\\b${name}\\b`).test(text));
    assert.deepEqual(named.filter((name) => !listed.has(name)), [], JSON.stringify(scope));
    assert.doesNotMatch(text, /\b(service|ingress|workload|namespace|network)\.[a-z]/, 'a dotted name is no name of a tool');
  }
});

test('a scope without workloads says how to publish those that are there', () => {
  const services = told({ toolsets: ['services'] });
  assert.match(services, /To publish an app: service_create with the labels of its workloads as selector\./);
  assert.doesNotMatch(services, /workload_run|ingress_|0\.0\.0\.0/);
  assert.match(services, /`enforced: true`/);
});

test('a server that only reads says so and promises no change', () => {
  const reading = told({ readOnly: true });
  assert.match(reading, /This server only reads\./);
  assert.doesNotMatch(reading, /To publish|enforced/);
});

test('a part of the tools says that there is more, in which groups, and who can show it; of tools that are forbidden it says nothing', () => {
  assert.doesNotMatch(told(), /not shown/);
  assert.doesNotMatch(told({ toolsets: ['all'], noDestructive: true }), /not shown/);
  assert.match(told({ toolsets: ['default'] }), /\b18 more tools \(services, ingress, policy, workloads, and namespaces\) are not shown; the operator can start this server with --toolsets all\./);
  assert.match(told({ toolsets: ['default', 'policy', 'workloads'] }), /\b7 more tools \(services, ingress, and namespaces\)/);
  assert.match(told({ toolsets: ['default'], noDestructive: true }), /This server only reads and adds\./);
});

test('whoever may isolate workloads learns that nothing does until then', () => {
  assert.match(told(), /reach each other freely until a network policy isolates them/);
  assert.doesNotMatch(told({ toolsets: ['workloads'] }), /isolates/);
});

/** Every set of toolsets but the empty one, with each limit. */
function everyScope(): ToolScope[] {
  return Array.from({ length: 2 ** TOOLSET_CHOICES.length - 1 }, (_, index) => {
    const toolsets = TOOLSET_CHOICES.filter((_toolset, place) => ((index + 1) >> place) % 2 === 1);
    return [{ toolsets }, { toolsets, readOnly: true }, { toolsets, noDestructive: true }];
  }).flat();
}
