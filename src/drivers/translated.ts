/** Reads from the nat table which endpoints each virtual IP is translated to; it changes nothing. */
import { translatedBy, type Translated } from '../compile/translated.ts';
import { parseIptablesSave, saveTable, type IptablesBackend } from './iptables-save.ts';

/** It reads the whole table: two seconds when that holds 35,000 rules. */
export async function readTranslated(backend: IptablesBackend, signal?: AbortSignal): Promise<Translated> {
  return translatedBy(parseIptablesSave(await saveTable(backend, 'nat', signal)).get('nat')?.chains ?? new Map());
}
