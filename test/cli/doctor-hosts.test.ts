/** What doctor finds of MCP hosts in homes made for it: what is in order, what is wrong, what to do, and that no secret is shown. */
import assert from 'node:assert/strict';
import { access, chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import type { Finding } from '../../src/surfaces/cli/doctor/finding.ts';
import { hostPlaces } from '../../src/surfaces/cli/doctor/host-places.ts';
import { inspectHosts } from '../../src/surfaces/cli/doctor/hosts.ts';
import { clawnode, launcher, runProcess } from './cli-process.ts';
import { asOrdinaryUser } from './sandbox-fixture.ts';

const root = await mkdtemp('/tmp/claw-hosts-');
after(() => rm(root, { recursive: true }));
const signal = new AbortController().signal;
const bin = join(root, 'bin');
await mkdir(bin);
await symlink(launcher, join(bin, 'clawnode'));
const version = (await clawnode(['--version'])).stdout.trim();
const CLAUDE = '.config/Claude/claude_desktop_config.json';
let homes = 0;

/** A home with these files; what stands in them is JSON unless it is a text. */
async function look(files: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv = {}): Promise<Finding[]> {
  const home = join(root, `home-${(homes += 1)}`);
  await mkdir(home);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(home, path)), { recursive: true });
    await writeFile(join(home, path), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return await inspectHosts({ platform: 'linux', home, cwd: join(home, 'work'), env: { PATH: `${bin}:${dirname(process.execPath)}`, ...env }, version }, signal);
}

/** Claude Desktop with this as our server. */
const claude = async (server: unknown): Promise<Finding> => only(await look({ [CLAUDE]: { mcpServers: { other: { command: 'npx' }, 'clawbernetes-networking': server } } }));

function only(findings: readonly Finding[]): Finding {
  const [finding] = findings;
  assert.ok(finding !== undefined && findings.length === 1, JSON.stringify(findings));
  return finding;
}

test('a home without any host, and none at all: a note, and where to read on', async () => {
  const none = only(await look({}));
  assert.deepEqual({ state: none.state, fix: none.fix }, { state: 'note', fix: 'README.md says how each is given our server.' });
  assert.match(only(await look({}, { SUDO_USER: 'someone' })).detail, /none is set up for root; run `clawnode doctor` as yourself/);
  const homeless = only(await inspectHosts({ platform: 'linux', home: undefined, cwd: '/', env: {}, version }, signal));
  assert.match(homeless.detail, /no home directory/);
});

test('our server in order: by name on the PATH, by path, by node and script, by URL', async () => {
  for (const server of [
    { command: 'clawnode', args: ['mcp'] },
    { command: join(bin, 'clawnode'), args: ['mcp', '--read-only'] },
    { command: 'node', args: [launcher, 'mcp'] },
    { command: process.execPath, args: [launcher, 'mcp'] },
    { type: 'http', url: 'http://127.0.0.1:8400/mcp', headers: { Authorization: 'Bearer hunter2' } },
  ]) {
    const finding = await claude(server);
    assert.equal(finding.state, 'ok', JSON.stringify({ server, finding }));
    assert.equal(finding.name, 'Claude Desktop');
  }
});

test('our server by another name is ours by what it starts; one that is not ours is none', async () => {
  const named = only(await look({ [CLAUDE]: { mcpServers: { network: { command: 'clawnode', args: ['mcp'] } } } }));
  assert.match(named.detail, /^"network" starts /);
  const absent = only(await look({ [CLAUDE]: { mcpServers: { other: { command: 'npx' } } } }));
  assert.equal(absent.state, 'note');
  assert.match(absent.detail, /our server is not in .*claude_desktop_config\.json/);
  assert.equal(absent.fix, 'Under "mcpServers": "clawbernetes-networking": {"command": "clawnode", "args": ["mcp"]}');
});

test('a host that is there without a file is told how to get our server', async () => {
  assert.match(only(await look({ '.config/Claude/logs': 'x' })).fix ?? '', /"mcpServers"/);
});

test('what would not start: command not found, old path, old script, no mcp, no command', async () => {
  for (const [server, detail, fix] of [
    [{ command: 'clawnode-9', args: ['mcp'] }, /starts clawnode-9, which is not on the PATH/, /absolute path/],
    [{ command: '/gone/clawnode', args: ['mcp'] }, /starts \/gone\/clawnode, which does not exist or is no program/, /command -v clawnode/],
    [{ command: 'node', args: ['/gone/bin/clawnode.js', 'mcp'] }, /runs \/gone\/bin\/clawnode\.js, which does not exist/, /bin\/clawnode\.js/],
    [{ command: 'clawnode' }, /without `mcp`/, /"args": \["mcp"\]/],
    [{ command: 'node', args: ['bin/clawnode.js', 'mcp'] }, /runs bin\/clawnode\.js, which is no absolute path/, /absolute path/],
    [{ command: 'clawnode mcp' }, /holds more than a program/, /"args": \["mcp"\]/],
    [{ command: '~/bin/clawnode', args: ['mcp'] }, /starts ~\/bin\/clawnode, which is not on the PATH/, /\(no ~\)/],
    [{ args: ['mcp'] }, /has no command/, /"command": "clawnode"/],
    ['clawnode mcp', /has no command/, /"command": "clawnode"/],
  ] as const) {
    const finding = await claude(server);
    assert.equal(finding.state, 'warning', JSON.stringify({ server, finding }));
    assert.match(finding.detail, detail);
    assert.match(finding.fix ?? '', fix);
  }
});

test('JSON that is broken is told with line and column, in strict JSON and in JSON with comments', async () => {
  for (const [path, text, place] of [
    [CLAUDE, '{\n  "mcpServers": {\n    "x": {},\n  }\n}\n', /is not JSON: line 4, column 3$/],
    [CLAUDE, '{\n  // mine\n}\n', /is not JSON: line 2, column 3$/],
    [CLAUDE, '{\n  "mcpServers": {\n', /is not JSON: it ends too early, in line 2$|is not JSON: line \d+, column \d+$/],
    [CLAUDE, '', /is not JSON/],
    ['.config/Code/User/mcp.json', '{\n  "servers": {{ }\n', /is not JSON with comments: line 2, column 15$/],
  ] as const) {
    const finding = only(await look({ [path]: text }));
    assert.equal(finding.state, 'warning');
    assert.match(finding.detail, place, text);
    assert.match(finding.fix ?? '', /starts none of its servers/);
  }
});

test('every other host: Cursor, VS Code with comments, Claude Code for the user and for a project, the folder itself', async () => {
  const server = { command: 'clawnode', args: ['mcp'] };
  const findings = await look({
    '.cursor/mcp.json': { mcpServers: { claw: server } },
    '.config/Code/User/mcp.json': '{\n  // mine\n  "servers": { "claw": { "type": "stdio", "command": "clawnode", "args": ["mcp"], }, },\n}',
    '.claude.json': { mcpServers: {}, projects: { '/somewhere': { mcpServers: { claw: server } } }, oauth: 'hunter2' },
    'work/.mcp.json': { mcpServers: { claw: { command: '/gone/clawnode', args: ['mcp'] } } },
    'work/.vscode/mcp.json': { servers: { claw: server } },
  });
  assert.deepEqual(findings.map(({ name, state }) => `${name} ${state}`), ['Claude Code ok', 'Cursor ok', 'VS Code ok', 'VS Code, this folder ok', 'Claude Code, this folder warning']);
});

test('a server of another version is told; root starts nothing that a file of a home names', async () => {
  const home = join(root, 'home-version');
  const program = join(home, 'clawnode');
  const started = join(root, 'started');
  await mkdir(dirname(join(home, CLAUDE)), { recursive: true });
  await writeFile(program, `#!/bin/sh\necho x 2>/dev/null >${started}\necho 0.0.1\n`);
  await chmod(program, 0o755);
  await chmod(root, 0o755);
  await writeFile(join(home, CLAUDE), JSON.stringify({ mcpServers: { claw: { command: program, args: ['mcp'] } } }));
  const { stdout } = await runProcess(asOrdinaryUser(['env', `HOME=${home}`, 'XDG_CONFIG_HOME=', process.execPath, launcher, 'doctor', '--json']));
  const found: Finding[] = JSON.parse(stdout).findings.filter(({ area }: Finding) => area === 'hosts');
  assert.match(only(found).detail, /which is 0\.0\.1; this is \d/);
  if (process.getuid?.() !== 0) return;
  await rm(started, { force: true });
  await clawnode(['doctor', '--json'], { env: { HOME: home } });
  await assert.rejects(access(started), { code: 'ENOENT' });
});

test('a folder of settings that its user may not look into is told', async () => {
  const home = join(root, 'home-closed');
  await mkdir(join(home, '.config', 'Claude'), { recursive: true });
  await chmod(root, 0o755);
  await chmod(join(home, '.config'), 0);
  try {
    const { stdout } = await runProcess(asOrdinaryUser(['env', `HOME=${home}`, 'XDG_CONFIG_HOME=', process.execPath, launcher, 'doctor', '--json']));
    const finding = only(JSON.parse(stdout).findings.filter(({ area }: Finding) => area === 'hosts'));
    assert.deepEqual({ state: finding.state, fix: finding.fix }, { state: 'warning', fix: `See whose it is: \`ls -ld ${join(home, '.config')}\`.` });
  } finally {
    await chmod(join(home, '.config'), 0o700);
  }
});

test('no secret of a file is repeated, whatever is wrong with it', async () => {
  const secret = 'hunter2';
  const servers = { 'clawbernetes-networking': { command: 'clawnode', args: ['--token', secret], env: { TOKEN: secret } }, b: { url: `http://u:${secret}@127.0.0.1:8400/mcp?key=${secret}`, command: 'clawnode' } };
  const others = {
    'clawbernetes-networking': { type: 'http', url: `https://example.com/${secret}/mcp`, headers: { Authorization: `Bearer ${secret}` } },
    clawnode: { command: `TOKEN=${secret} clawnode mcp`, args: ['clawnode'] },
    c: { command: `/opt/clawnode --token=${secret}`, args: ['clawnode', 'mcp'] },
    d: { command: 'env', args: [`TOKEN=${secret}`, 'clawnode', 'mcp'], env: { TOKEN: secret } },
  };
  const findings = [
    ...(await look({
      '.cursor/mcp.json': { mcpServers: others },
      '.config/Code/User/mcp.json': { inputs: [{ id: secret, password: true }], servers: others },
      '.claude.json': { mcpServers: others, oauthAccount: secret },
    })),
    ...(await look({ [CLAUDE]: { mcpServers: servers }, '.openclaw/openclaw.json': { gateway: { auth: { token: secret } }, mcp: { servers } } })),
    ...(await look({ [CLAUDE]: `{"token": "${secret}" "x"}`, '.openclaw/openclaw.json': `{token: '${secret}' x}` })),
  ];
  assert.ok(findings.length >= 17, String(findings.length));
  assert.doesNotMatch(JSON.stringify(findings), /hunter2/);
});

test('OpenClaw: plugin in order, of another version, switched off, gone, not there; and our server in its file', async () => {
  const installed = { [`.openclaw/npm/projects/clawbernetes-networking/node_modules/clawbernetes-networking/package.json`]: { version } };
  const entry = (fields: object): Readonly<Record<string, unknown>> => ({ '.openclaw/openclaw.json': `// comment\n${JSON.stringify({ plugins: { entries: { 'clawbernetes-networking': fields } } })}` });
  for (const [files, state, words] of [
    [{ ...installed, ...entry({ enabled: true }) }, 'ok', /our plugin .* is installed/],
    [{ ...installed, ...entry({ enabled: false }) }, 'warning', /switched off/],
    [{ '.openclaw/extensions/clawbernetes-networking/package.json': { version: '0.0.1' }, ...entry({}) }, 'warning', /version 0\.0\.1, this program of/],
    [entry({ enabled: true }), 'warning', /names our plugin, and none is installed/],
    [{ '.openclaw/openclaw.json': '{}' }, 'note', /neither our plugin nor our MCP server/],
    [{ '.openclaw/openclaw.json': '{mcp: {servers: {clawnode: {command: "clawnode", args: ["mcp"]}}}}' }, 'ok', /"clawnode" starts /],
    [{ '.openclaw/openclaw.json': '{mcp: ' }, 'warning', /is not JSON with comments: line 1, column 7/],
  ] as const) {
    const finding = only(await look(files));
    assert.deepEqual({ name: finding.name, state: finding.state }, { name: 'OpenClaw', state }, JSON.stringify(finding));
    assert.match(finding.detail, words);
    assert.equal(finding.fix === undefined, state === 'ok');
  }
});

test('where Claude Desktop keeps its file on each system', () => {
  const file = (platform: NodeJS.Platform, home: string, env: NodeJS.ProcessEnv = {}): string | undefined => hostPlaces({ platform, home, cwd: '/', env }).find(({ host }) => host === 'Claude Desktop')?.file;
  assert.equal(file('linux', '/home/a'), '/home/a/.config/Claude/claude_desktop_config.json');
  assert.equal(file('linux', '/home/a', { XDG_CONFIG_HOME: '/x' }), '/x/Claude/claude_desktop_config.json');
  assert.equal(file('darwin', '/Users/a'), '/Users/a/Library/Application Support/Claude/claude_desktop_config.json');
  assert.equal(file('win32', 'C:\\Users\\a', { APPDATA: 'C:\\Users\\a\\AppData\\Roaming' }), 'C:\\Users\\a\\AppData\\Roaming\\Claude\\claude_desktop_config.json');
});
