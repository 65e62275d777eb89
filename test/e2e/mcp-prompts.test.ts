/** The prompts about a database, followed word by word in a sandbox: nobody is cut off before it is enforced, and then only who should be. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { eventually } from '../cli/sandbox-fixture.ts';
import { call, connectStdio } from './fixture-mcp.ts';

const DATABASE = "require('node:net').createServer((socket) => { socket.on('error', () => {}); socket.end('rows'); }).listen(5432, '0.0.0.0')";
/** Connects four times a second and prints each outcome. */
const USER =
  "const { connect } = require('node:net'); setInterval(() => { const socket = connect(5432, process.argv[1]); socket.on('error', ({ code }) => console.log(code)); socket.on('data', (data) => console.log(String(data))); }, 250)";

interface Called {
  readonly tool: string;
  readonly answer: Record<string, unknown>;
}

async function open(t: TestContext): Promise<Client> {
  const client = await connectStdio(t, { args: ['--mode', 'sandbox', '--toolsets', 'all'] });
  const database = await run(client, 'db-1', 'postgres', DATABASE);
  for (const [name, app] of [['api-1', 'api'], ['stray-1', 'stray']] as const) await run(client, name, app, USER, String(database['meshIp']));
  for (const name of ['api-1', 'stray-1']) await eventually(() => lastLine(client, name), (line) => line === 'rows');
  return client;
}

async function run(client: Client, name: string, app: string, script: string, ...args: string[]): Promise<Record<string, unknown>> {
  const { structuredContent } = await call(client, 'workload_run', { name, labels: { app }, command: [process.execPath, '-e', script, ...args] });
  return structuredContent ?? assert.fail(name);
}

async function lastLine(client: Client, name: string): Promise<unknown> {
  const { structuredContent } = await call(client, 'workload_logs', { name, tail: 1 });
  const lines = structuredContent?.['lines'];
  return Array.isArray(lines) ? lines[0] : undefined;
}

/** Makes each call of the prompt that stands on a line of its own, with the names of this test in its placeholders. */
async function follow(client: Client, prompt: { name: string; arguments: Record<string, string> }, seen: (called: Called) => Promise<void>): Promise<void> {
  const { messages } = await client.getPrompt(prompt);
  const text = messages[0]?.content.type === 'text' ? messages[0].content.text : assert.fail('no text');
  for (const [, tool = '', json = ''] of text.matchAll(/^- (\w+) (\{.*\})$/gm)) {
    const params: Record<string, unknown> = JSON.parse(json.replaceAll('DATABASE', 'db-1').replaceAll('CLIENT', 'api-1').replaceAll('OTHER', 'stray-1').replaceAll('"app":"client"', '"app":"api"'));
    const { isError, structuredContent, content } = await call(client, tool, params);
    assert.equal(isError, undefined, `${tool} ${json}: ${JSON.stringify(content)}`);
    assert.notEqual(structuredContent?.['enforced'], false, `${tool} ${json}: ${JSON.stringify(content)}`);
    await seen({ tool, answer: structuredContent ?? {} });
  }
}

/** The flows of a verdict at the database, by who began them. */
async function sources(client: Client, verdict: string): Promise<string[]> {
  const { structuredContent } = await call(client, 'network_flows', { workload: 'db-1', verdict });
  const flows = structuredContent?.['flows'];
  assert.equal(structuredContent?.['auditWorks'], true, JSON.stringify(structuredContent));
  return Array.isArray(flows) ? [...new Set(flows.map((flow: { from?: string }) => String(flow.from)))].toSorted() : [];
}

test('locking down a database: both users are found, nobody is cut off, then the stranger alone', async (t) => {
  const client = await open(t);
  const verdicts: unknown[] = [];
  let enforced = false;
  await follow(client, { name: 'lock_down_database', arguments: { database: 'postgres' } }, async ({ tool, answer }) => {
    if (tool === 'network_flows' && !enforced) {
      await eventually(() => sources(client, 'audit'), (found) => found.join() === 'default/api-1,default/stray-1');
      for (const name of ['api-1', 'stray-1']) assert.equal(await lastLine(client, name), 'rows', 'a rehearsal cuts nobody off');
    }
    if (tool === 'network_policy_update') enforced = true;
    if (tool === 'network_explain') verdicts.push(answer['verdict']);
    if (tool === 'network_probe') {
      verdicts.push(answer['reachable']);
      assert.notEqual(answer['agreesWithModel'], false);
    }
  });
  assert.deepEqual(verdicts, ['allow', true, 'deny', false, 'deny', false]);
  await eventually(() => lastLine(client, 'stray-1'), (line) => line === 'ECONNREFUSED');
  assert.equal(await lastLine(client, 'api-1'), 'rows');
  assert.deepEqual(await eventually(() => sources(client, 'deny'), (found) => found.length > 0 && !found.includes('default/api-1')).then((found) => found.includes('default/stray-1')), true);
  // The way back that it names.
  assert.equal((await call(client, 'network_policy_update', { name: 'postgres-lockdown', mode: 'audit' })).isError, undefined);
  await eventually(() => lastLine(client, 'stray-1'), (line) => line === 'rows');
});

test('isolating a database: at once', async (t) => {
  const client = await open(t);
  const verdicts: unknown[] = [];
  await follow(client, { name: 'isolate_database', arguments: { database: 'postgres', client: 'api' } }, async ({ tool, answer }) => {
    if (tool === 'network_policy_create') assert.equal(answer['selected'], 1);
    if (tool === 'network_explain') verdicts.push(answer['verdict']);
    if (tool === 'network_probe') verdicts.push(answer['reachable']);
  });
  assert.deepEqual(verdicts, ['allow', true, 'deny', false, 'deny', false]);
  await eventually(() => lastLine(client, 'stray-1'), (line) => line === 'ECONNREFUSED');
  assert.equal(await lastLine(client, 'api-1'), 'rows');
});
