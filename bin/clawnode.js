#!/usr/bin/env node
/**
 * Finds a Node.js that is new enough and runs the command line under it; it holds no logic of the program itself.
 * Written for Node 14, because it has to be able to say that an old Node is too old.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import nodeModule from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const NEEDED = [24, 16];
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'];
const STOP_GRACE_MS = 30000;
/** Holds the pid of the launcher that started this process; removed at once, so that no program started later inherits it. */
const LAUNCHER = 'CLAWNODE_LAUNCHER_PID';

// import.meta.url is the real file even when npm's symlink in node_modules/.bin was started.
const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..');

if (isNewEnough(process.versions.node)) {
  stopWithLauncher();
  // A rejection here is a defect, and Node's own report of it has the stack.
  void runHere();
} else {
  runUnderBundledNode();
}

async function runHere() {
  const built = join(packageRoot, 'dist', 'src', 'surfaces', 'cli', 'main.js');
  const source = join(packageRoot, 'src', 'surfaces', 'cli', 'main.ts');
  // A checkout runs its sources even when somebody has built it; the published package carries only the built files.
  const fromSource = existsSync(source);
  // Stripping types at every start takes longer than a small command, and a desktop starts its bundles while its user waits.
  // Who may write this cache may write the program too.
  if (fromSource || isBundle()) nodeModule.enableCompileCache(join(packageRoot, 'node_modules', '.cache', 'clawnode'));
  const cli = await import(pathToFileURL(fromSource ? source : built).href);
  process.exitCode = await cli.main(process.argv.slice(2));
}

function runUnderBundledNode() {
  const node = bundledNode();
  if (node === undefined) {
    process.stderr.write('clawnode needs Node.js >= ' + NEEDED.join('.') + ', this is ' + process.versions.node + ': ' + remedy() + '\n');
    process.exitCode = 1;
    return;
  }
  const child = spawn(node, [fileURLToPath(import.meta.url)].concat(process.argv.slice(2)), {
    // The fourth channel closes when this process dies, however it dies: that is how the child learns of a SIGKILL.
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: Object.assign({}, process.env, { [LAUNCHER]: String(process.pid) }),
  });
  const forward = (signal) => child.kill(signal);
  for (const signal of FORWARDED) process.on(signal, forward);
  child.on('error', (error) => {
    process.stderr.write('clawnode could not start ' + node + ': ' + error.message + '\n');
    process.exitCode = 1;
  });
  child.on('exit', (exitCode, signal) => {
    for (const name of FORWARDED) process.removeListener(name, forward);
    if (signal === null) process.exit(exitCode);
    // Dying of the same signal tells a calling shell what happened; the exit code is for signals that Node survives.
    process.kill(process.pid, signal);
    setTimeout(() => process.exit(128 + constants.signals[signal]), 100);
  });
}

/** What to do about a Node that is too old, for whoever installed this: as a bundle of Claude Desktop, or from npm. */
function remedy() {
  if (isBundle()) {
    return 'install it from nodejs.org so that it comes first on the PATH, or, where the Node.js of Claude Desktop is new enough, switch that on under Settings > Extensions > Advanced settings';
  }
  return 'install it, or run `npm ci` in ' + packageRoot + ' on Linux x64 or arm64, which brings one along';
}

/** Whether this lies in a bundle for Claude Desktop. */
function isBundle() {
  return existsSync(join(packageRoot, 'manifest.json'));
}

/** The Node that the optional dependencies put beside us, or undefined where there is none or it is too old as well. */
function bundledNode() {
  const folder = join(packageRoot, 'node_modules', 'node-linux-' + process.arch);
  const binary = join(folder, 'bin', 'node');
  if (process.platform !== 'linux' || !existsSync(binary)) return undefined;
  const version = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version;
  return isNewEnough(version) ? binary : undefined;
}

/** Stops this process in good order when the launcher that started it is gone. */
function stopWithLauncher() {
  const launcher = process.env[LAUNCHER];
  delete process.env[LAUNCHER];
  if (launcher === undefined || process.channel === undefined) return;
  process.once('disconnect', stopInGoodOrder);
  // The channel alone must not keep the program alive.
  process.channel.unref();
  if (!process.connected) stopInGoodOrder();
}

/** As if a terminal had been closed: a shell in a sandbox ignores SIGTERM, and minds SIGHUP. */
function stopInGoodOrder() {
  process.kill(process.pid, 'SIGHUP');
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), STOP_GRACE_MS).unref();
}

function isNewEnough(version) {
  const parts = version.split('.').map(Number);
  return parts[0] > NEEDED[0] || (parts[0] === NEEDED[0] && parts[1] >= NEEDED[1]);
}
