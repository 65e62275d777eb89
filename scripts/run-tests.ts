/**
 * Runs the tests: unit tests as they are, kernel tests each in namespaces of its own (some once for each iptables backend), then
 * end-to-end tests one after the other, and beside them those with real hosts.
 * It never touches the network of the machine. Usage: `node scripts/run-tests.ts [--unit] [part of a file name ...]`.
 */
import { globSync, readlinkSync } from 'node:fs';
import { basename, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { toClawError } from '../src/errors.ts';
import { run } from '../src/drivers/exec.ts';
import { emptyResult, fileResult, runFiles, type Coverage, type FileResult } from './test-results.ts';

const NAMESPACES = ['unshare', '--user', '--map-root-user', '--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'] as const;
/** Kernel tests through the whole agent that are run once more on iptables-legacy. Those of drivers go through both backends by themselves. */
const ALSO_ON_LEGACY = new Set(['agent-drift', 'agent-flows', 'agent-policy', 'agent-restart', 'isolation', 'isolation-forwarding', 'kubernetes-e2e', 'policy-differential', 'policy-flush', 'services', 'services-many', 'services-refusal']);
const KERNEL_FILE_TIMEOUT_MS = 10 * 60_000;
const E2E_FILE_TIMEOUT_MS = 15 * 60_000;
const COVERED = ['src/compile/**', 'src/ipam/**'];
const MEASURED = ['test/compile/', 'test/ipam/'];
const COVERAGE_LINES = 99;
const COVERAGE_BRANCHES = 97;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { unit: { type: 'boolean', default: false }, inside: { type: 'string' } },
});
const stopping = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stopping.abort(new Error(`stopped by ${name}`)));

if (values.inside === undefined) process.exitCode = await runAll();
else await runInside(values.inside);

async function runAll(): Promise<number> {
  const startedAt = performance.now();
  const files = select();
  const results: FileResult[] = [];
  const done = (result: FileResult): void => {
    results.push(result);
    report(result);
  };
  const coverage = await runUnit(files.unit, done);
  const privileged = [...files.kernel, ...files.e2e, ...files.hosts];
  const missing = privileged.length === 0 ? undefined : await whyNoNamespaces();
  if (missing === undefined) {
    await inParallel(2, files.kernel.flatMap(kernelRuns), async ({ file, backend }) => {
      const argv = [...NAMESPACES, 'env', `CLAWNODE_TEST_BACKEND=${backend}`];
      const result = await runSeparately(file, { argv, timeoutMs: KERNEL_FILE_TIMEOUT_MS });
      done(backend === 'nft' ? result : { ...result, file: `${file} on ${backend}` });
    });
    // Hosts are waited for most of the time, so they go beside the end-to-end tests.
    const oneByOne = (lane: readonly string[]): Promise<void> => inParallel(1, lane, async (file) => done(await runSeparately(file, { argv: [], timeoutMs: E2E_FILE_TIMEOUT_MS })));
    await Promise.all([oneByOne(files.e2e), oneByOne(files.hosts)]);
  }
  return summarize({ results, coverage, durationMs: performance.now() - startedAt, notRun: missing === undefined ? [] : privileged, missing });
}

function kernelRuns(file: string): { file: string; backend: 'nft' | 'legacy' }[] {
  const twice = ALSO_ON_LEGACY.has(basename(file, '.test.ts'));
  return (twice ? (['nft', 'legacy'] as const) : (['nft'] as const)).map((backend) => ({ file, backend }));
}

/** Called in the namespaces: runs the one file and tells the result on the last line of stdout. */
async function runInside(file: string): Promise<void> {
  const { results } = await runFiles([file], { concurrency: 1, signal: stopping.signal });
  // A pipe takes 64 KiB at once; only the callback tells that all of it is written.
  const { promise, resolve: written } = Promise.withResolvers<void>();
  process.stdout.write(`${JSON.stringify(results[0] ?? emptyResult(file))}\n`, () => written());
  await promise;
}

function select(): { unit: string[]; kernel: string[]; e2e: string[]; hosts: string[] } {
  const files = globSync('test/**/*.test.ts')
    .filter((file) => positionals.length === 0 || positionals.some((part) => file.includes(part)))
    .map((file) => resolve(file))
    .toSorted();
  const below = (folder: string): string[] => files.filter((file) => file.startsWith(resolve('test', folder)));
  const kernel = below('kernel/');
  const [e2e, hosts] = [below('e2e/'), below('hosts/')];
  const unit = files.filter((file) => ![kernel, e2e, hosts].some((others) => others.includes(file)));
  return values.unit ? { unit, kernel: [], e2e: [], hosts: [] } : { unit, kernel, e2e, hosts };
}

/** The pure steps are measured by their own tests; under a measurement a test could not start programs as another user. */
async function runUnit(files: readonly string[], done: (result: FileResult) => void): Promise<Coverage | undefined> {
  if (files.length === 0) return undefined;
  const measured = positionals.length === 0 ? files.filter((file) => MEASURED.some((folder) => file.startsWith(resolve(folder)))) : [];
  const others = files.filter((file) => !measured.includes(file));
  const pure = measured.length === 0 ? undefined : await runFiles(measured, { concurrency: 2, signal: stopping.signal, coverageOf: COVERED });
  for (const result of pure?.results ?? []) done(result);
  const { results } = await runFiles(others, { concurrency: 2, signal: stopping.signal });
  for (const result of results) done(result);
  return pure?.coverage;
}

/** Why network and user namespaces cannot be had here; undefined when they can. */
async function whyNoNamespaces(): Promise<string | undefined> {
  try {
    await run([...NAMESPACES, 'mount', '-t', 'tmpfs', 'tmpfs', '/run'], { signal: stopping.signal });
    return undefined;
  } catch (error) {
    stopping.signal.throwIfAborted();
    return toClawError(error).message;
  }
}

/** Runs one file by a second runner, started by `argv`. */
async function runSeparately(file: string, { argv, timeoutMs }: { argv: readonly string[]; timeoutMs: number }): Promise<FileResult> {
  const [program, ...args] = [...argv, process.execPath, import.meta.filename, '--inside', file];
  const startedAt = performance.now();
  // Kernel tests refuse to run in the network namespace of this name.
  process.env['CLAWNODE_TEST_HOST_NETNS'] = readlinkSync('/proc/self/ns/net');
  try {
    const { stdout } = await run([program ?? process.execPath, ...args], { timeoutMs, signal: stopping.signal });
    return fileResult.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''));
  } catch (error) {
    stopping.signal.throwIfAborted();
    const failure = { name: relative('.', file), error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    return { ...emptyResult(file), durationMs: performance.now() - startedAt, failures: [failure] };
  }
}

async function inParallel<T>(limit: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...items];
  const worker = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: limit }, worker));
}

function report({ file, passed, skipped, failures, durationMs, output }: FileResult): void {
  const counts = [`${passed} passed`, ...(failures.length > 0 ? [`${failures.length} FAILED`] : []), ...(skipped > 0 ? [`${skipped} skipped`] : [])];
  print(`${failures.length > 0 ? '✗' : '✓'} ${relative('.', file).padEnd(48)} ${counts.join(', ').padEnd(24)} ${(durationMs / 1000).toFixed(1)} s`);
  if (failures.length === 0) return;
  for (const failure of failures) print(indent(`✗ ${failure.name}\n${indent(failure.error)}`));
  if (output.trim() !== '') print(indent(`what it printed:\n${indent(output.trimEnd())}`));
}

interface Summary {
  readonly results: readonly FileResult[];
  readonly coverage: Coverage | undefined;
  readonly durationMs: number;
  readonly notRun: readonly string[];
  readonly missing: string | undefined;
}

function summarize({ results, coverage, durationMs, notRun, missing }: Summary): number {
  const sum = (count: (result: FileResult) => number): number => results.reduce((total, result) => total + count(result), 0);
  const failed = sum((result) => result.failures.length);
  const passed = sum((result) => result.passed);
  const skipped = sum((result) => result.skipped);
  const covered = coverage === undefined || (coverage.linePercent >= COVERAGE_LINES && coverage.branchPercent >= COVERAGE_BRANCHES);
  const mayMissKernel = process.env['CLAWNODE_ALLOW_NO_KERNEL'] === '1';
  if (coverage !== undefined) printCoverage(coverage, covered);
  if (missing !== undefined) {
    print(`\n!! Namespaces cannot be had here: ${missing}`);
    print(`!! ${notRun.length} test files DID NOT RUN:\n${indent(notRun.map((file) => relative('.', file)).join('\n'))}`);
    print(mayMissKernel ? '!! CLAWNODE_ALLOW_NO_KERNEL=1: this is let pass.' : '!! Set CLAWNODE_ALLOW_NO_KERNEL=1 to let this pass.');
  }
  if (results.length === 0 && notRun.length === 0) print('No test file matches.');
  print(`\n${results.length} files in ${(durationMs / 1000).toFixed(0)} s`);
  print(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  return failed > 0 || !covered || (missing !== undefined && !mayMissKernel) || results.length + notRun.length === 0 ? 1 : 0;
}

function printCoverage({ linePercent, branchPercent, gaps }: Coverage, covered: boolean): void {
  print(`\n${covered ? '✓' : '✗'} coverage of ${COVERED.join(' and ')}: ${linePercent.toFixed(1)} % of lines (at least ${COVERAGE_LINES}), ${branchPercent.toFixed(1)} % of branches (at least ${COVERAGE_BRANCHES})`);
  for (const gap of gaps) print(indent(gap));
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '    ');
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
