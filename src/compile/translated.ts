/** Reads nat rules of ours back: which endpoints each virtual IP is translated to. The reverse of compiling services. Pure. */
import type { Rules } from './kernel-state.ts';

/** By virtual IP, endpoints as `ip:port`. */
export type Translated = ReadonlyMap<string, ReadonlySet<string>>;

/** Of every rule that matches one address, and of the chains that it leads to. */
export function translatedBy(chains: ReadonlyMap<string, Rules>): Translated {
  const translated = new Map<string, Set<string>>();
  for (const rules of chains.values()) {
    for (const rule of rules) {
      const vip = /^-d (\S+)\/32 /.exec(rule)?.[1];
      if (vip === undefined) continue;
      const targets = translated.get(vip) ?? new Set<string>();
      for (const target of targetsOf(rule, chains)) targets.add(target);
      translated.set(vip, targets);
    }
  }
  return translated;
}

function targetsOf(rule: string, chains: ReadonlyMap<string, Rules>): string[] {
  const target = / --to-destination (\S+)$/.exec(rule)?.[1];
  if (target !== undefined) return [target];
  const next = /(?:^| )-[jg] (\S+)$/.exec(rule)?.[1];
  return (chains.get(next ?? '') ?? []).flatMap((one) => targetsOf(one, chains));
}
