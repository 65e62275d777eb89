/** Compares what an agent answers and what its kernel holds with the model that churn leaves. It changes nothing. */
import { z } from 'zod';
import { endpointLookup } from '../../src/compile/endpoints.ts';
import { compileKernel } from '../../src/compile/kernel.ts';
import { TABLES } from '../../src/compile/kernel-state.ts';
import { run, type Argv } from '../../src/drivers/exec.ts';
import { parseIpsetSave } from '../../src/drivers/ipset.ts';
import { parseIptablesSave } from '../../src/drivers/iptables-save.ts';
import { aService, aWorkload, desired, node, observed } from '../compile/state.ts';
import type { Invoke, Model } from './fixture-churn.ts';

/** How long a released address rests. */
const QUARANTINE_MS = 60_000;

export interface Kernel {
  readonly rules: string;
  readonly sets: string;
  readonly interfaces: string;
}

/** `enter` is put before each program, e.g. `nsenter --net=...`. */
export async function readKernel(enter: readonly string[] = []): Promise<Kernel> {
  const output = async (...argv: Argv): Promise<string> => {
    const [program, ...args] = [...enter, ...argv];
    return (await run([program ?? '', ...args], { timeoutMs: 60_000 })).stdout;
  };
  return { rules: await output('iptables-nft-save'), sets: await output('ipset', 'save'), interfaces: await output('ip', '-o', 'link') };
}

/** What differs, in words: none when answers and kernel are exactly what the model says. */
export async function differencesFrom(model: Model, { invoke, kernel }: { invoke: Invoke; kernel: Kernel }): Promise<string[]> {
  return [...(await answerDifferences(model, invoke)), ...kernelDifferences(model, kernel)];
}

async function answerDifferences(model: Model, invoke: Invoke): Promise<string[]> {
  const named = z.looseObject({ name: z.string() });
  const list = async <Item>(kind: string, item: z.ZodType<Item>): Promise<Item[]> => {
    const answer = z.looseObject({ [`${kind}s`]: z.array(item) }).parse(await invoke(`${kind === 'ingresse' ? 'ingress' : kind}.list`, { limit: 500 }));
    return z.array(item).parse(answer[`${kind}s`]);
  };
  const services = await list('service', named.extend({ clusterIp: z.string(), port: z.int(), protocol: z.string() }));
  const ingresses = await list('ingresse', named.extend({ rules: z.array(z.looseObject({ service: z.string() })) }));
  const workloads = await list('workload', named.extend({ id: z.string(), meshIp: z.string(), state: z.string() }));
  const pool = z.looseObject({ used: z.int(), quarantined: z.int() });
  const status = z.looseObject({ allocator: z.looseObject({ stats: z.looseObject({ clusterIps: pool, workloadIps: pool }) }) });
  const { clusterIps, workloadIps } = status.parse(await invoke('network.status', {})).allocator.stats;
  const resting = [...model.releasedMs.values()].filter((atMs) => performance.now() - atMs < QUARANTINE_MS + 1000).length;
  return [
    ...compare('services', {
      wanted: [...model.services].map(([name, { clusterIp, port, protocol }]) => `${name} ${clusterIp} ${port}/${protocol}`),
      found: services.map(({ name, clusterIp, port, protocol }) => `${name} ${clusterIp} ${port}/${protocol}`),
    }),
    ...compare('ingresses', {
      wanted: [...model.ingresses].map(([name, service]) => `${name} ${service}`),
      found: ingresses.map(({ name, rules }) => `${name} ${rules.map(({ service }) => service).join(' ')}`),
    }),
    ...compare('workloads', {
      wanted: [...model.workloads].map(([name, { id, ip }]) => `${name} ${id} ${ip} running`),
      found: workloads.map(({ name, id, meshIp, state }) => `${name} ${id} ${meshIp} ${state}`),
    }),
    ...compare('allocations', { wanted: [`${model.services.size} ${model.workloads.size}`], found: [`${clusterIps.used} ${workloadIps.used}`] }),
    ...(clusterIps.quarantined > resting ? [`${clusterIps.quarantined} virtual IPs are in quarantine, and only ${resting} were released in the last minute`] : []),
  ];
}

function kernelDifferences(model: Model, kernel: Kernel): string[] {
  const services = [...model.services].map(([name, { port, protocol, selector, endpoints = [], clusterIp }]) =>
    aService({ name, clusterIp, ports: [{ port, protocol }], endpoints, ...(selector === undefined ? {} : { selector }) }),
  );
  const workloads = [...model.workloads].map(([name, { id, ip }]) => aWorkload({ id, name, ip, labels: { app: name } }));
  const state = desired({ services, workloads });
  const compiled = compileKernel(node, state, endpointLookup(state, observed(workloads)));
  const held = parseIptablesSave(kernel.rules);
  const tables = TABLES.flatMap((table) => {
    const lines = (chains: ReadonlyMap<string, readonly string[]>): string[] => [...chains].flatMap(([chain, rules]) => [`:${chain}`, ...rules.map((rule, index) => `${chain} ${index}: ${rule}`)]);
    const jumps = (all: readonly { readonly chain: string; readonly rule: string }[]): string[] => all.map(({ chain, rule }) => `${chain} ${rule}`);
    const { chains, jumps: wantedJumps } = compiled.iptables[table];
    return compare(table, {
      // What belongs to a program that is not there is not wanted.
      wanted: [...lines(chains), ...jumps(wantedJumps.filter(({ optional }) => optional !== true))],
      found: [...lines(held.get(table)?.chains ?? new Map()), ...jumps(held.get(table)?.jumps ?? [])],
    });
  });
  const sets = parseIpsetSave(kernel.sets);
  const members = (named: Iterable<readonly [string, Iterable<string>]>): string[] => [...named].flatMap(([name, all]) => [name, ...[...all].map((member) => `${name} ${member}`)]);
  return [
    ...tables,
    ...compare('ipsets', {
      wanted: members(compiled.ipsets.map((set) => [set.name, set.members] as const)),
      found: members([...sets].map(([name, set]) => [name, set.members] as const)),
    }),
    ...compare('interfaces', { wanted: compiled.links.map((link) => link.hostInterface), found: kernel.interfaces.match(/\bclawv\w+(?=@)/g) ?? [] }),
  ];
}

function compare(place: string, { wanted, found }: { wanted: readonly string[]; found: readonly string[] }): string[] {
  const [want, have] = [new Set(wanted), new Set(found)];
  return [...wanted.filter((line) => !have.has(line)).map((line) => `${place} lacks ${line}`), ...found.filter((line) => !want.has(line)).map((line) => `${place} also holds ${line}`)];
}
