/** The packed plugin in the real OpenClaw host: installed, loaded, its skill eligible, its MCP server probed, each of its commands and tools called. */
import assert from 'node:assert/strict';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { z } from 'zod';
import { run } from '../../src/drivers/exec.ts';
import { openSandbox, type Sandbox } from '../../src/sandbox/sandbox.ts';
import { connectAgent } from '../../src/surfaces/agent-client.ts';
import { tools } from '../../tools/index.ts';
import { checkout, runInside } from '../cli/sandbox-fixture.ts';
import { everyCommand, FOREIGN_NETNS } from './every-command.ts';
import { until } from './openclaw-gateway.ts';
import { openHost } from './openclaw-host.ts';
import { addedToPackage, otherFiles, ourProcesses } from './openclaw-leftovers.ts';
import { copyOfCheckout } from './openclaw-package.ts';
import { openGateway, type Gateway } from './openclaw-ways.ts';
import { byCommandLine, carryOut, comparable, neverAnswered, type Told, type Way } from './same-answers.ts';

const ID = 'clawbernetes-networking';
const never = new AbortController().signal;
const toolNames = tools.map(({ toolName }) => toolName).toSorted();

const opened = new AsyncDisposableStack();
after(() => opened.disposeAsync());
const host = await openHost();
opened.defer(host.close);
const copy = await copyOfCheckout();
opened.defer(copy.close);

/** Where the host has put the package; its `clawnode` is the one that a user would link. */
const installed = join(host.home, '.openclaw', 'npm', 'projects', ID, 'node_modules');
const bin = join(host.home, 'bin');
await mkdir(bin);
await symlink(join(installed, '.bin', 'clawnode'), join(bin, 'clawnode'));

test("our words for the plugin API fit the host's own types", async () => {
  const directory = join(host.home, 'types');
  await mkdir(directory);
  await symlink(host.modules, join(directory, 'node_modules'));
  const source = [
    "import type { OpenClawPluginApi as Host } from 'openclaw/plugin-sdk/plugin-entry';",
    `import type { OpenClawPluginApi } from ${JSON.stringify(join(checkout, 'src', 'surfaces', 'openclaw-api.ts'))};`,
    'export const ours = (host: Host): OpenClawPluginApi => host;',
    '// @ts-expect-error The types were found: neither is `any`.',
    'export const nothing: Host | OpenClawPluginApi = 1;',
  ];
  await writeFile(join(directory, 'fits.ts'), source.join('\n'));
  const settings = ['--ignoreConfig', '--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2024', '--allowImportingTsExtensions'];
  const types = ['--types', 'node', '--typeRoots', join(checkout, 'node_modules', '@types')];
  const { exitCode, stdout } = await run([join(checkout, 'node_modules', '.bin', 'tsc'), ...settings, ...types, join(directory, 'fits.ts')], {
    timeoutMs: 120_000,
    okExitCodes: [0, 1, 2],
  });
  assert.equal(exitCode, 0, stdout);
});

test('A: the tarball installs, and the plugin is loaded with exactly our tools', async () => {
  const packed = await copy.pack();
  assert.equal(packed.exitCode, 0, packed.stderr);
  const install = await host.run(['plugins', 'install', `npm-pack:${copy.tarball}`, '--force', '--accept-capabilities']);
  const report = z.object({
    plugin: z.object({ status: z.string(), toolNames: z.array(z.string()), dependencyStatus: z.object({ requiredInstalled: z.boolean() }) }),
    diagnostics: z.array(z.unknown()),
  });
  const { plugin, diagnostics } = report.parse(await host.json(['plugins', 'inspect', ID, '--runtime']), { error: () => JSON.stringify(install) });
  assert.deepEqual(diagnostics, []);
  assert.equal(plugin.status, 'loaded');
  assert.deepEqual(plugin.toolNames.toSorted(), toolNames);
  assert.ok(plugin.dependencyStatus.requiredInstalled);
  // The host has run `register` to say all that.
  assert.deepEqual(await ourProcesses(host, installed), []);
  assert.deepEqual(await otherFiles(host), ['bin', 'types']);
});

test('B: the skill is eligible with clawnode on the PATH, and says that it is missing without', async () => {
  const skill = z.object({ eligible: z.boolean(), modelVisible: z.boolean(), missing: z.object({ bins: z.array(z.string()) }) });
  const info = async (path: readonly string[]): Promise<unknown> => skill.parse(await host.json(['skills', 'info', 'networking'], { path }));
  assert.deepEqual(await info([]), { eligible: false, modelVisible: false, missing: { bins: ['clawnode'] } });
  assert.deepEqual(await info([bin]), { eligible: true, modelVisible: true, missing: { bins: [] } });
});

/** What the host itself puts beside the tools of a server that has resources and prompts. */
const MADE_BY_HOST = ['prompts_get', 'prompts_list', 'resources_list', 'resources_read'];

test('C: the host starts our MCP server and finds exactly our tools, and makes its own for resources and prompts', async () => {
  const add = await host.run(['mcp', 'add', 'clawnode', '--command', 'clawnode', '--arg', 'mcp', '--arg', '--toolsets', '--arg', 'all', '--no-probe'], { path: [bin] });
  const probe = z.object({ servers: z.record(z.string(), z.object({ tools: z.number() })), tools: z.array(z.string()), diagnostics: z.array(z.unknown()) });
  const seen = probe.parse(await host.json(['mcp', 'probe', 'clawnode'], { path: [bin] }), { error: () => JSON.stringify(add) });
  assert.deepEqual(seen.diagnostics, []);
  const expected = [...toolNames, ...MADE_BY_HOST].toSorted();
  assert.equal(seen.servers['clawnode']?.tools, toolNames.length);
  // The host puts the name of the server before each tool's.
  assert.deepEqual(seen.tools.toSorted(), expected.map((name) => `clawnode__${name}`));
  // The server had opened a sandbox.
  await until(() => ourProcesses(host, installed), (found) => found.length === 0);
});

/** Where the gateway's plugin and that of the node host look for their agent: two, so that no answer can come from the wrong one. */
const sockets = { gateway: join(host.home, 'gateway.sock'), node: join(host.home, 'node.sock') };
const places = ['gateway', 'node'] as const;
type Place = (typeof places)[number];

const agents = new Map<Place, Sandbox>();
after(() => Promise.all([...agents.values()].map((sandbox) => sandbox.close())));

/** Puts an agent that holds nothing, beside what the script needs, behind the socket of a place, instead of the one before. */
async function freshAgent(place: Place): Promise<void> {
  await noAgent(place);
  const sandbox = await openSandbox({}, never);
  agents.set(place, sandbox);
  assert.equal((await runInside(sandbox, ['ip', 'netns', 'add', FOREIGN_NETNS])).exitCode, 0);
  await symlink(sandbox.socketPath, sockets[place]);
}

async function noAgent(place: Place): Promise<void> {
  await agents.get(place)?.close();
  await rm(sockets[place], { force: true });
}

const commandLine = (place: Place): Way => byCommandLine(bin, sockets[place]);
let gateway: Gateway;
let byHand: readonly Told[];
const ways = (): readonly (readonly [Place, Way])[] => [['node', gateway.byNode], ['gateway', gateway.byTool]];

test('the script uses every command, and each gives an answer by `clawnode invoke`', async () => {
  assert.deepEqual([...new Set(everyCommand.map(({ command }) => command))].toSorted(), tools.map(({ command }) => command).toSorted());
  await freshAgent('node');
  const way = commandLine('node');
  const script = carryOut(everyCommand, { way, commandLine: way, socketPath: sockets.node });
  const opening = openGateway({ after: (work) => opened.defer(work) }, host, { pluginId: ID, sockets, bin });
  [byHand, gateway] = await Promise.all([script, opening]);
  // Errors alone would be equal too easily.
  assert.deepEqual(neverAnswered(byHand), []);
});

test('every answer and every error is the one of `clawnode invoke`', { concurrency: true }, async (t) => {
  await Promise.all(places.map(freshAgent));
  const same = async (place: Place, way: Way): Promise<void> => {
    const found = await carryOut(everyCommand, { way, commandLine: commandLine(place), socketPath: sockets[place] });
    assert.deepEqual(comparable(found), comparable(byHand));
  };
  await Promise.all([
    t.test('D: by node.invoke on a node host', () => same('node', gateway.byNode)),
    t.test('E: by the tools of the gateway, called over HTTP', () => same('gateway', gateway.byTool)),
  ]);
});

test('D: `openclaw nodes invoke` prints the answer, and an error with code, path and hint', async () => {
  const said = await gateway.byHostCommandLine('service.create', { name: 'typed', selector: { app: 'web' }, port: 80 });
  assert.match(z.object({ answer: z.object({ clusterIp: z.string() }) }).parse(said).answer.clusterIp, /^10\.201\.\d+\.\d+$/);
  const refused = await gateway.byHostCommandLine('service.create', { name: 'api', port: 80_000 });
  const { error } = z.object({ error: z.object({ code: z.literal('INVALID_ARGUMENT'), path: z.literal('port'), hint: z.string() }) }).parse(refused);
  assert.match(error.hint, /^service\.create takes /);
});

test('E: a wrong token is refused before anything is carried out, and so is a tool that is none of ours', async () => {
  const { status, body } = await gateway.post('namespace_create', { name: 'strangers' }, 'a wrong token');
  assert.equal(status, 401, JSON.stringify(body));
  assert.equal((await gateway.post('service_creates', {})).status, 404);
  const { answer } = z.object({ answer: z.object({ namespaces: z.array(z.object({ name: z.string() })) }) }).parse(await gateway.byTool('namespace.list', {}));
  assert.ok(!answer.namespaces.some(({ name }) => name === 'strangers'));
});

test('what a stranger wrote arrives plain, in an answer and in an error', async () => {
  const written = '\u001b[31mred\u001b[0m \u202eback\u200b';
  for (const [place, way] of ways()) {
    await way('workload.run', { name: 'strange', command: [written] });
    const calls = [['workload.get', { name: 'strange' }], ['network.explain', { from: written, to: 'default/client', port: 80 }]] as const;
    for (const [command, params] of calls) {
      const [plain, raw] = await Promise.all([way(command, params), commandLine(place)(command, params)]);
      assert.ok(texts(raw).some((text) => text.includes(written)), command);
      assert.deepEqual(texts(plain), texts(raw).map((text) => text.replaceAll(written, 'red back')));
    }
  }
});

test('an answer of a megabyte arrives whole', async () => {
  const printing = "for (let line = 0; line < 1200; line += 1) console.log(line + 'x'.repeat(1000)); setInterval(() => undefined, 60000)";
  for (const [place, way] of ways()) {
    await way('workload.run', { name: 'loud', command: [process.execPath, '-e', printing] });
    const all = { name: 'loud', tail: 1000 };
    const typed = await until(() => commandLine(place)('workload.logs', all), (said) => texts(said).at(-1)?.startsWith('1199x') === true);
    const said = await way('workload.logs', all);
    assert.deepEqual(said, typed);
    assert.ok(JSON.stringify(said).length > 900_000);
  }
});

const unreachable = z.object({ error: z.object({ code: z.literal('AGENT_UNREACHABLE'), message: z.string(), hint: z.string() }) });

test('an agent that is killed is there again, with all it held, for the same gateway and node host', async () => {
  for (const [place, way] of ways()) {
    const sandbox = agents.get(place) ?? assert.fail();
    const before = await way('service.list', {});
    const { pid } = await connectAgent(sandbox.socketPath).health(never);
    await runInside(sandbox, ['kill', '-9', String(pid)]);
    // A call waits for two seconds; a busy machine may need longer to bring it back.
    const again = await until(() => way('service.list', {}), (said) => 'answer' in said || !unreachable.safeParse(said).success);
    assert.deepEqual(again, before);
    assert.notEqual((await connectAgent(sandbox.socketPath).health(never)).pid, pid);
  }
});

test('without an agent the answer says how to start one, and one that comes is found without a restart of the host', async () => {
  for (const [place, way] of ways()) {
    await noAgent(place);
    const [said, typed] = await Promise.all([way('network.status', {}), commandLine(place)('network.status', {})]);
    assert.match(unreachable.parse(said).error.hint, /Start one with `sudo clawnode up`/);
    assert.deepEqual(said, typed);
    assert.ok(unreachable.parse(said).error.message.includes(sockets[place]));
    await freshAgent(place);
    assert.match(JSON.stringify(await way('service.create', { name: 'again', selector: { app: 'web' }, port: 80 })), /"clusterIp":"10\.201\.0\.1"/);
  }
});

test('all that leaves nothing of ours behind: the plugin holds no process and writes no file', async () => {
  assert.deepEqual(await ourProcesses(host, installed), []);
  assert.deepEqual(await otherFiles(host), ['bin', 'gateway.sock', 'node.json', 'node.sock', 'types']);
  assert.deepEqual(await addedToPackage(join(installed, ID), copy.tarball), []);
});

/** Every text of a JSON value, in order. */
function texts(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(texts) : [];
}
