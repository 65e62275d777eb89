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
import { everythingServer } from '../mcp/conformance/everything.ts';
import { openTokenProxy } from '../mcp/conformance/token-proxy.ts';
import { installedPackage, npmEnvironment, runToEnd } from './npm-cache.ts';

const VERSION = '0.2.0-alpha.12';
const SUITE_TIMEOUT_MS = 5 * 60_000;
const TOKEN = 'a-token-for-the-suite-alone';

/** All that a revision requires of a server, and what the suite has beyond that which we hold to as well. */
const REVISIONS = [
  {
    revision: '2025-11-25',
    required: [
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
    ],
    beyond: ['server-session-lifecycle'],
  },
  {
    revision: '2026-07-28',
    required: [
      'server-stateless',
      'completion-complete',
      'tools-list',
      'tools-call-simple-text',
      'tools-call-image',
      'tools-call-audio',
      'tools-call-embedded-resource',
      'tools-call-mixed-content',
      'tools-call-error',
      'tools-call-with-progress',
      'server-sse-multiple-streams',
      'resources-list',
      'resources-read-text',
      'resources-read-binary',
      'resources-templates-read',
      'sep-2164-resource-not-found',
      'prompts-list',
      'prompts-get-simple',
      'prompts-get-with-args',
      'prompts-get-embedded-resource',
      'prompts-get-with-image',
      'dns-rebinding-protection',
      'caching',
      'input-required-result-basic-elicitation',
      'input-required-result-basic-sampling',
      'input-required-result-basic-list-roots',
      'input-required-result-request-state',
      'input-required-result-multiple-input-requests',
      'input-required-result-multi-round',
      'input-required-result-missing-input-response',
      'input-required-result-non-tool-request',
      'input-required-result-result-type',
      'input-required-result-unsupported-methods',
      'input-required-result-tampered-state',
      'input-required-result-capability-check',
      'input-required-result-ignore-extra-params',
      'input-required-result-validate-input',
    ],
    beyond: ['http-header-validation'],
  },
];

/** Checks of notifications that a server need not offer: our lists of tools and prompts never change. */
const NOT_OFFERED = new Set(['sep-2575-server-sends-prompts-list-changed-on-subscription', 'sep-2575-server-sends-tools-list-changed-on-subscription']);

const requirements = z.object({ server: z.array(z.string()) });
const checks = z.array(z.object({ id: z.string(), status: z.string(), errorMessage: z.string().optional() })).min(1);

for (const { revision, required, beyond } of REVISIONS) test(`every server scenario of revision ${revision} passes`, { timeout: SUITE_TIMEOUT_MS * 3 }, async (t) => {
  const directory = join(await installedPackage({ name: '@modelcontextprotocol/conformance', version: VERSION, without: 'nothing is known of our conformance' }), 'node_modules', '@modelcontextprotocol', 'conformance');
  const { server } = requirements.parse(parse(await readFile(join(directory, 'requirements', `${revision}.yaml`), 'utf8')));
  assert.deepEqual(server, required, 'the suite requires something else than what is listed here');

  const defects: unknown[] = [];
  const stopping = new AbortController();
  const route = mcpRoute({ token: TOKEN, createServer: () => everythingServer().server }, stopping.signal);
  const listener = await listenOnLoopback({ port: 0, routes: [route], onDefect: (error) => defects.push(error) });
  t.after(async () => {
    stopping.abort();
    await listener.close();
  });
  await using proxy = await openTokenProxy({ port: listener.port, token: TOKEN });
  const results = await mkdtemp(join(tmpdir(), 'claw-conformance-'));
  t.after(() => rm(results, { recursive: true, force: true }));

  const argv = [process.execPath, join(directory, 'dist', 'index.js'), 'server', '--url', `${proxy.url}${MCP_PATH}`, '--requirements', revision, '--output-dir', results] as const;
  const { exitCode, stdout, stderr } = await runToEnd(argv, { env: npmEnvironment(), timeoutMs: SUITE_TIMEOUT_MS });
  for (const scenario of [...required, ...beyond]) {
    const found = await checksOf(results, scenario);
    t.diagnostic(`${scenario}: ${found.map(({ status }) => status).join(' ')}`);
    // INFO says something of what was seen; a warning, a failure or a skipped check is none of ours.
    const wrong = found.filter(({ status }) => status !== 'SUCCESS' && status !== 'INFO');
    const notOffered = wrong.filter(({ id, status }) => status === 'SKIPPED' && NOT_OFFERED.has(id));
    assert.deepEqual(wrong, notOffered, scenario);
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
