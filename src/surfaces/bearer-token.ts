/** The token that programs of this user prove themselves with: kept in a file that only its owner can read, never shown, never in an argument. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import { link, mkdir, open, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { getuid, platform } from 'node:process';
import { ClawError } from '../errors.ts';

/** 256 bits, which read as 43 characters. */
const TOKEN_BYTES = 32;
const MIN_LENGTH = 16;
const MAX_LENGTH = 4_096;

/** Where the token is kept unless told. */
export function defaultTokenFile(env: NodeJS.ProcessEnv = process.env): string {
  const wished = env['XDG_CONFIG_HOME'];
  return join(wished === undefined || wished === '' ? join(homedir(), '.config') : wished, 'clawnode', 'mcp-token');
}

/**
 * The token in the file; where there is no file, a new random one that is written there with mode 0600. Throws CONFIG_INVALID
 * for what is no file, for one that others can read, that belongs to somebody else, or that holds no token.
 */
export async function readOrMakeToken(file: string): Promise<string> {
  try {
    return (await readToken(file)) ?? (await makeToken(file)) ?? (await readToken(file)) ?? gone(file);
  } catch (error) {
    if (error instanceof ClawError) throw error;
    throw new ClawError('CONFIG_INVALID', `the token file ${file} can not be used: ${error instanceof Error ? error.message : String(error)}`, {
      path: 'token-file',
      hint: 'Name another one with --token-file.',
      cause: error,
    });
  }
}

/** Whether the `Authorization` header carries the token. Takes the same time wherever the two differ. */
export function isAuthorized(header: string | undefined, token: string): boolean {
  const [, given] = /^Bearer +(\S+) *$/i.exec(header ?? '') ?? [];
  // Digests are of one length, as the comparison needs.
  return given !== undefined && timingSafeEqual(digest(given), digest(token));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Undefined where there is no file. */
async function readToken(file: string): Promise<string | undefined> {
  // Opening a named pipe to read would wait for its writer for ever.
  const handle = await unless('ENOENT', () => open(file, constants.O_RDONLY | constants.O_NONBLOCK));
  if (handle === undefined) return undefined;
  try {
    await requirePrivate(file, handle);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_LENGTH + 1));
    const token = buffer.toString('utf8', 0, bytesRead).trim();
    if (/^[\x21-\x7e]+$/.test(token) && token.length >= MIN_LENGTH && bytesRead <= MAX_LENGTH) return token;
    throw new ClawError('CONFIG_INVALID', `the token file ${file} holds no token of ${MIN_LENGTH} to ${MAX_LENGTH} printable characters`, {
      path: 'token-file',
      hint: 'Remove it, and a new token is made.',
    });
  } finally {
    await handle.close();
  }
}

/** Undefined when another program has just made the file. Written to a name of its own first, so that it is never there half. */
async function makeToken(file: string): Promise<string | undefined> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    const token = randomBytes(TOKEN_BYTES).toString('base64url');
    await writeFile(draft, `${token}\n`, { flag: 'wx', mode: 0o600 });
    // Unlike a rename, a link replaces no file that is there already.
    return await unless('EEXIST', async () => {
      await link(draft, file);
      return token;
    });
  } finally {
    await rm(draft, { force: true });
  }
}

/** Undefined when it fails with this error of the system. */
async function unless<T>(code: string, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === code) return undefined;
    throw error;
  }
}

async function requirePrivate(file: string, handle: FileHandle): Promise<void> {
  const status = await handle.stat();
  if (!status.isFile()) throw new ClawError('CONFIG_INVALID', `the token file ${file} is no regular file`, { path: 'token-file', hint: 'Name another one with --token-file.' });
  // Windows has other rights than these.
  if (platform === 'win32') return;
  const { mode, uid } = status;
  const others = (mode & 0o077).toString(8).padStart(3, '0');
  if (others !== '000') {
    throw new ClawError('CONFIG_INVALID', `the token file ${file} has mode ${(mode & 0o777).toString(8)}: others may use it`, {
      path: 'token-file',
      hint: `Run \`chmod 600 ${file}\`; if somebody may have read it, remove it instead, and a new token is made.`,
    });
  }
  if (uid !== getuid?.() && uid !== 0) {
    throw new ClawError('CONFIG_INVALID', `the token file ${file} belongs to uid ${uid}`, { path: 'token-file', hint: 'Name one of your own with --token-file.' });
  }
}

function gone(file: string): never {
  throw new ClawError('CONFIG_INVALID', `the token file ${file} comes and goes`, { path: 'token-file', hint: 'Try again.' });
}
