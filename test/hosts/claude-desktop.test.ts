/** Claude Desktop: the bundle as it is packed, unpacked by the official tool and started as its manifest says, and the snippet of the README. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { getMcpConfigForManifest, MANIFEST_SCHEMAS } from '@anthropic-ai/mcpb';
import { CallToolResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { z } from 'zod';
import { toolsInScope, type ToolScope } from '../../src/surfaces/tool-scope.ts';
import { asOrdinaryUser, checkout } from '../cli/sandbox-fixture.ts';
import { launcher } from '../cli/cli-process.ts';
import { errorOf } from '../mcp/client.ts';
import { desktopConfig, serverConfig, startServer, type Started } from './claude-desktop.ts';
import { npmEnvironment, runToEnd, type Outcome } from './openclaw-host.ts';
import { copyOfCheckout } from './openclaw-package.ts';

const PACK_TIMEOUT_MS = 5 * 60_000;
/** What the list may take on a machine that is busy with other things; docs/performance.md has the figure of an idle one. */
const MOST_MS = 5_000;

const copy = await copyOfCheckout();
const folder = await mkdtemp(join(tmpdir(), 'claw-desktop-'));
const temporary = join(folder, 'tmp');
const unpacked = join(folder, 'unpacked');
await mkdir(temporary);
// Another user is to run what is in there.
await chmod(folder, 0o755);
after(async () => {
  await copy.close();
  await rm(folder, { recursive: true, force: true });
});

const { version } = z.object({ version: z.string() }).parse(JSON.parse(await copy.manifest()));
const bundle = join(copy.directory, 'bundle', `clawbernetes-networking-${version}.mcpb`);

function npmRunBundle(): Promise<Outcome> {
  return runToEnd(['npm', 'run', '--silent', 'bundle'], { env: { ...npmEnvironment(), TMPDIR: temporary }, cwd: copy.directory, timeoutMs: PACK_TIMEOUT_MS });
}

/** npm keeps a cache of its own there. */
async function leftBehind(): Promise<string[]> {
  return (await readdir(temporary)).filter((name) => name !== 'node-compile-cache');
}

function namesInScope(scope: ToolScope): string[] {
  return toolsInScope(scope).map(({ toolName }) => toolName);
}

const manifestText = (): Promise<string> => readFile(join(unpacked, 'manifest.json'), 'utf8');

before(async () => {
  const packed = await npmRunBundle();
  assert.equal(packed.exitCode, 0, packed.stderr);
  const tool = join(checkout, 'node_modules', '.bin', 'mcpb');
  const outcome = await runToEnd([tool, 'unpack', bundle, unpacked], { env: npmEnvironment(), cwd: folder, timeoutMs: PACK_TIMEOUT_MS });
  assert.equal(outcome.exitCode, 0, outcome.stderr);
});

/** As the host does it: settings filled in, `node` looked up on the PATH, by a user without any right. */
async function startBundle(t: TestContext, settings: Readonly<Record<string, string | boolean>>): Promise<Started> {
  const manifest = MANIFEST_SCHEMAS['0.3'].parse(JSON.parse(await manifestText()));
  const filled = await getMcpConfigForManifest({ manifest, extensionPath: unpacked, systemDirs: {}, userConfig: settings, pathSeparator: '/' });
  const started = await startServer(serverConfig.parse(filled), { wrap: asOrdinaryUser });
  t.after(() => started.client.close());
  return started;
}

test('packing leaves one file and nothing else, and the file holds what the program needs and no more', async () => {
  assert.deepEqual(await leftBehind(), []);
  assert.deepEqual(await readdir(join(copy.directory, 'bundle')), [`clawbernetes-networking-${version}.mcpb`]);
  assert.ok(!existsSync(join(copy.directory, 'dist')));
  assert.ok((await stat(bundle)).size < 20 * 1024 * 1024);
  assert.deepEqual((await readdir(unpacked)).toSorted(), ['LICENSE', 'bin', 'dist', 'manifest.json', 'node_modules', 'package.json']);
  const modules = await readdir(join(unpacked, 'node_modules'));
  for (const needed of ['zod', 'pino', 'dockerode']) assert.ok(modules.includes(needed), needed);
  assert.deepEqual(modules.filter((name) => /^node-linux|^typescript$|^oxlint|^knip$|^openclaw$|^gpt-tokenizer$|^cpu-features$/.test(name)), []);
});

test('the manifest says what is true: version, platforms, Node and the tools that are listed', async () => {
  const manifest = MANIFEST_SCHEMAS['0.3'].parse(JSON.parse(await manifestText()));
  const { engines, os } = z.object({ engines: z.object({ node: z.string() }), os: z.array(z.string()) }).parse(JSON.parse(await copy.manifest()));
  assert.equal(manifest.version, version);
  assert.deepEqual(manifest.compatibility, { platforms: os, runtimes: { node: engines.node } });
  assert.deepEqual(manifest.tools?.map(({ name }) => name), namesInScope({ toolsets: ['default'] }));
  assert.ok(existsSync(join(unpacked, manifest.server.entry_point)));
});

for (const mode of ['sandbox', 'model']) {
  test(`unpacked it starts for a user without rights, lists the default tools at once and serves a ${mode}`, async (t) => {
    const { client, tools, listedMs } = await startBundle(t, { mode });
    t.diagnostic(`${mode}: tools/list was answered ${Math.round(listedMs)} ms after the start`);
    assert.deepEqual(tools, namesInScope({ toolsets: ['default'] }));
    assert.ok(listedMs < MOST_MS, `${listedMs} ms`);
    const status = CallToolResultSchema.parse(await client.callTool({ name: 'network_status' }));
    assert.equal(status.structuredContent?.['mode'], mode, JSON.stringify(status));
    assert.equal(status.structuredContent?.['version'], version);
  });
}

test('its settings reach the server: toolsets, read only, nothing destructive', async (t) => {
  const reading = await startBundle(t, { mode: 'model', toolsets: 'all', read_only: true });
  assert.deepEqual(reading.tools, namesInScope({ readOnly: true }));
  const adding = await startBundle(t, { mode: 'model', toolsets: 'services,network', no_destructive: true });
  assert.deepEqual(adding.tools, namesInScope({ toolsets: ['services', 'network'], noDestructive: true }));
  const refused = CallToolResultSchema.parse(await adding.client.callTool({ name: 'service_delete', arguments: { name: 'x' } }));
  assert.equal(errorOf(refused)['code'], 'NOT_ALLOWED');
});

test('a Node.js that is too old says so, and what to do in Claude Desktop', async () => {
  const old = "data:text/javascript,Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '22.11.0' } })";
  const { exitCode, stdout, stderr } = await runToEnd([process.execPath, '--import', old, join(unpacked, 'bin', 'clawnode.js'), 'mcp'], { env: npmEnvironment(), cwd: folder, timeoutMs: 60_000 });
  assert.deepEqual({ exitCode, stdout }, { exitCode: 1, stdout: '' });
  assert.match(stderr, /^clawnode needs Node\.js >= 24\.16, this is 22\.11\.0: install it from nodejs\.org.*Claude Desktop.*Settings > Extensions > Advanced settings\n$/);
});

test('a build that fails makes no bundle, leaves the old one and nothing else', async () => {
  const old = await readFile(bundle);
  const broken = join(copy.directory, 'src', 'broken.ts');
  await writeFile(broken, 'export const port: number = "eighty";\n');
  const { exitCode, stderr } = await npmRunBundle();
  await rm(broken);
  assert.notEqual(exitCode, 0);
  assert.match(stderr, /no bundle was made/);
  assert.deepEqual(await leftBehind(), []);
  assert.ok(old.equals(await readFile(bundle)));
  assert.deepEqual(await readdir(join(copy.directory, 'bundle')), [`clawbernetes-networking-${version}.mcpb`]);
});

test("the README's snippet, read by a client, starts the server with clawnode on the PATH", async (t) => {
  const readme = await readFile(join(checkout, 'README.md'), 'utf8');
  const [, snippet = ''] = /`claude_desktop_config\.json`:\n\n```json\n([^]*?)\n```/.exec(readme) ?? [];
  const file = join(folder, 'claude_desktop_config.json');
  await writeFile(file, snippet);
  const { mcpServers } = desktopConfig.parse(JSON.parse(await readFile(file, 'utf8')));
  assert.deepEqual(Object.keys(mcpServers), ['clawbernetes-networking']);
  // What `npm link` puts there.
  const bin = join(folder, 'bin');
  await mkdir(bin);
  await symlink(launcher, join(bin, 'clawnode'));
  for (const server of Object.values(mcpServers)) {
    const started = await startServer(server, { path: [bin] });
    t.after(() => started.client.close());
    assert.deepEqual(started.tools, namesInScope({ toolsets: ['default'] }));
    assert.match(started.client.getInstructions() ?? '', /^You (?:speak for|program) /);
  }
});
