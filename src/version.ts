/** The version of this program, from the package it lies in. */
import { readFileSync } from 'node:fs';
import { findPackageJSON } from 'node:module';
import { ClawError } from './errors.ts';

export function version(): string {
  const path = findPackageJSON(import.meta.url);
  const manifest: unknown = path === undefined ? undefined : JSON.parse(readFileSync(path, 'utf8'));
  if (typeof manifest === 'object' && manifest !== null && 'version' in manifest && typeof manifest.version === 'string') return manifest.version;
  throw new ClawError('INTERNAL', `no version is written in ${path ?? 'any package.json above this program'}`);
}
