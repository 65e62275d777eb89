/** The official conformance suite of MCP against our real HTTP stack: listener, token, Host and Origin, sessions and streams are the product's; only the tools behind them are the suite's. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import { listenOnLoopback } from '../../src/surfaces/http.ts';
import { MCP_PATH, mcpRoute } from '../../src/surfaces/mcp-http.ts';
import { createFixtureServer } from '../mcp/conformance/fixture-server.ts';
import { openTokenProxy } from '../mcp/conformance/token-proxy.ts';
import { installedPackage, npmEnvironment, runToEnd } from './npm-cache.ts';

const VERSION = '0.2.0-alpha.12';
const REVISION = '2025-11-25';
const SUITE_TIMEOUT_MS = 5 * 60_000;
const TOKEN = 'a-token-for-the-suite-alone';

/** All that the revision requires of a server, and what the suite has beyond that which we hold to as well. */
const REQUIRED = [
  'server-initialize',
  'logging-set-level',
  'ping',
  'completion-complete',
  'tools-list',
  'tools-call-simple-text',
  'tools-call-image',
  'tools-call-audio',
  'tools-call-embedded-resource',
  'tools-call-mixed-content',
  'tools-call-with-logging',
  'tools-call-error',
  'tools-call-with-progress',
  'tools-call-sampling',
  'tools-call-elicitation',
  'elicitation-sep1034-defaults',
  'server-sse-multiple-streams',
  'elicitation-sep1330-enums',
  'resources-list',
  'resources-read-text',
  'resources-read-binary',
  'resources-templates-read',
  'resources-subscribe',
  'resources-unsubscribe',
  'prompts-list',
  'prompts-get-simple',
  'prompts-get-with-args',
  'prompts-get-embedded-resource',
  'prompts-get-with-image',
  'dns-rebinding-protection',
];
const BEYOND = ['server-session-lifecycle'];

const requirements = z.object({ server: z.array(z.string()) });
const checks = z.array(z.object({ id: z.string(), status: z.string(), errorMessage: z.string().optional() })).min(1);

test(`every server scenario of revision ${REVISION} passes`, { timeout: SUITE_TIMEOUT_MS * 3 }, async (t) => {
  const directory = join(await installedPackage({ name: '@modelcontextprotocol/conformance', version: VERSION, without: 'nothing is known of our conformance' }), 'node_modules', '@modelcontextprotocol', 'conformance');
  const { server: required } = requirements.parse(parse(await readFile(join(directory, 'requirements', `${REVISION}.yaml`), 'utf8')));
  assert.deepEqual(required, REQUIRED, 'the suite requires something else than what is listed here');

  const defects: unknown[] = [];
  const stopping = new AbortController();
  const route = mcpRoute({ token: TOKEN, createServer: () => createFixtureServer().server }, stopping.signal);
  const listener = await listenOnLoopback({ port: 0, routes: [route], onDefect: (error) => defects.push(error) });
  t.after(async () => {
    stopping.abort();
    await listener.close();
  });
  await using proxy = await openTokenProxy({ port: listener.port, token: TOKEN });
  const results = await mkdtemp(join(tmpdir(), 'claw-conformance-'));
  t.after(() => rm(results, { recursive: true, force: true }));

  const argv = [process.execPath, join(directory, 'dist', 'index.js'), 'server', '--url', `${proxy.url}${MCP_PATH}`, '--requirements', REVISION, '--output-dir', results] as const;
  const { exitCode, stdout, stderr } = await runToEnd(argv, { env: npmEnvironment(), timeoutMs: SUITE_TIMEOUT_MS });
  for (const scenario of [...REQUIRED, ...BEYOND]) {
    const found = await checksOf(results, scenario);
    t.diagnostic(`${scenario}: ${found.map(({ status }) => status).join(' ')}`);
    // INFO says something of what was seen; a warning, a failure or a skipped check is none of ours.
    assert.deepEqual(found.filter(({ status }) => status !== 'SUCCESS' && status !== 'INFO'), [], scenario);
    assert.ok(found.some(({ status }) => status === 'SUCCESS'), `${scenario}: nothing was checked`);
  }
  assert.equal(exitCode, 0, `${stdout}\n${stderr}`);
  assert.deepEqual(defects, []);
  // Both kinds of answers were under test: one JSON object, and a stream where something came first.
  assert.ok(proxy.answered.includes('application/json') && proxy.answered.includes('text/event-stream'), proxy.answered.join(', '));
});

/** Each scenario writes one directory. */
async function checksOf(results: string, scenario: string): Promise<z.output<typeof checks>> {
  const pattern = new RegExp(`^server-${scenario}-\\d{4}-`);
  const [directory, ...others] = (await readdir(results)).filter((name) => pattern.test(name));
  assert.ok(directory !== undefined && others.length === 0, `${scenario} was not run once`);
  return checks.parse(JSON.parse(await readFile(join(results, directory, 'checks.json'), 'utf8')));
}
