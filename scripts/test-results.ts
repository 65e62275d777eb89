/** Runs test files through node:test and gathers what they did; it never decides which files run where. */
import { finished } from 'node:stream/promises';
import { run, type EventData } from 'node:test';
import { inspect } from 'node:util';
import { z } from 'zod';

/** What one file did; also the form in which a run inside a namespace tells the runner outside. */
export const fileResult = z.object({
  file: z.string(),
  passed: z.number(),
  skipped: z.number(),
  durationMs: z.number(),
  failures: z.array(z.object({ name: z.string(), error: z.string() })),
  /** What the file printed on stdout and stderr. */
  output: z.string(),
});
export type FileResult = z.infer<typeof fileResult>;

export interface Coverage {
  readonly linePercent: number;
  readonly branchPercent: number;
  /** One line of text for each file that is not covered in full. */
  readonly gaps: readonly string[];
}

export interface RunFilesOptions {
  readonly concurrency: number;
  /** Globs of the sources whose coverage is measured; none unless told. */
  readonly coverageOf?: readonly string[];
  readonly signal?: AbortSignal;
}

/** Runs the files, each in a process of its own. A file without a single test counts as a failure. */
export async function runFiles(files: readonly string[], options: RunFilesOptions): Promise<{ results: FileResult[]; coverage: Coverage | undefined }> {
  const { concurrency, coverageOf, signal } = options;
  const results = new Map(files.map((file) => [file, emptyResult(file)]));
  const resultOf = (data: object): FileResult | undefined => results.get(fileOf(data));
  let coverage: Coverage | undefined;
  const stream = run({
    files: [...files],
    concurrency,
    ...(signal === undefined ? {} : { signal }),
    ...(coverageOf === undefined ? {} : { coverage: true, coverageIncludeGlobs: [...coverageOf] }),
  });
  stream.on('test:pass', (data) => recordPass(resultOf(data), data));
  stream.on('test:fail', (data) => recordFailure(resultOf(data), data));
  stream.on('test:complete', (data) => recordTime(resultOf(data), data));
  stream.on('test:stdout', (data) => recordOutput(resultOf(data), data.message));
  stream.on('test:stderr', (data) => recordOutput(resultOf(data), data.message));
  stream.on('test:coverage', ({ summary }) => (coverage = readCoverage(summary)));
  stream.resume();
  await finished(stream);
  return { results: [...results.values()], coverage };
}

export function emptyResult(file: string): FileResult {
  return { file, passed: 0, skipped: 0, durationMs: 0, failures: [], output: '' };
}

/** The file that was started: a test that a shared contract defines is placed in another one. */
function fileOf(data: object): string {
  if ('entryFile' in data && typeof data.entryFile === 'string') return data.entryFile;
  return 'file' in data && typeof data.file === 'string' ? data.file : '';
}

function recordPass(result: FileResult | undefined, data: EventData.TestPass): void {
  if (result === undefined || data.details.type === 'suite') return;
  if (data.name === result.file) result.failures.push({ name: data.name, error: 'The file holds no test.' });
  else if (data.skip !== undefined) result.skipped += 1;
  else result.passed += 1;
}

function recordFailure(result: FileResult | undefined, data: EventData.TestFail): void {
  const { error } = data.details;
  // The tests that failed below this one are told by themselves.
  if (result === undefined || ('failureType' in error && error.failureType === 'subtestsFailed')) return;
  result.failures.push({ name: data.name, error: inspect(error.cause ?? error) });
}

function recordTime(result: FileResult | undefined, data: EventData.TestComplete): void {
  if (result !== undefined && data.name === result.file) result.durationMs = data.details.duration_ms;
}

function recordOutput(result: FileResult | undefined, message: string): void {
  if (result !== undefined) result.output += message;
}

function readCoverage({ files, totals, workingDirectory }: EventData.TestCoverage['summary']): Coverage {
  const gaps = files
    .filter((file) => file.coveredLinePercent < 100 || file.coveredBranchPercent < 100)
    .map((file) => {
      const missed = (what: string, all: readonly { readonly line: number; readonly count: number }[]): string[] => {
        const lines = all.filter(({ count }) => count === 0).map(({ line }) => line);
        return lines.length === 0 ? [] : [`${what} ${lines.join(' ')}`];
      };
      return `${file.path.slice(workingDirectory.length + 1)} misses ${[...missed('lines', file.lines), ...missed('branches at', file.branches)].join(', ')}`;
    });
  return { linePercent: totals.coveredLinePercent, branchPercent: totals.coveredBranchPercent, gaps };
}
