/**
 * One run of many-services.ts, in a network namespace of its own: writes 5,000 services into the empty kernel as it is told
 * (`ours`, `kube-proxy`, or `kube-proxy-jumps` with that one's jumps in place) and prints how many milliseconds that took.
 */
import { run } from '../src/drivers/exec.ts';
import { openIptables } from '../src/drivers/iptables.ts';
import { endpointsOf } from './agent.ts';
import { KUBE_PROXY_JUMPS, kubeProxyPayload } from './kube-proxy-layout.ts';
import { benchService, compileServices, setsOf, vipOf } from './payloads.ts';

export const SERVICES = 5000;

if (import.meta.main) {
  const services = Array.from({ length: SERVICES }, (_, number) => benchService(number, vipOf(number)));
  const takenMs = process.argv[2] === 'ours' ? await writeOurs() : await writeKubeProxy(process.argv[2] === 'kube-proxy-jumps');
  const { stdout } = await run(['iptables-nft-save', '-t', 'nat'], { timeoutMs: 60_000 });
  const targets = stdout.match(/-j DNAT/g)?.length;
  if (targets !== SERVICES * endpointsOf(0).length) throw new Error(`${targets ?? 0} DNAT rules were written`);
  process.stdout.write(`${takenMs}\n`);

  /** From the state in memory to the last proved commit, the start of the restore process included. */
  async function writeOurs(): Promise<number> {
    await run(['ipset', 'restore'], { input: setsOf(compileServices([])) });
    const driver = openIptables({ backend: 'nft' });
    const beganMs = performance.now();
    await driver.apply(compileServices(services).iptables);
    const endedMs = performance.now();
    await driver.close();
    return endedMs - beganMs;
  }

  /** The restore alone: the payload is ready. */
  async function writeKubeProxy(jumpsFirst: boolean): Promise<number> {
    if (jumpsFirst) await run(['iptables-nft-restore', '--noflush'], { input: KUBE_PROXY_JUMPS });
    const payload = kubeProxyPayload(services);
    const expected = 5 + SERVICES * (2 + 3 * endpointsOf(0).length);
    const rules = payload.match(/^-A /gm)?.length;
    if (rules !== expected) throw new Error(`kube-proxy's layout has ${expected} rules, not ${rules ?? 0}`);
    const beganMs = performance.now();
    await run(['iptables-nft-restore', '--noflush', '--wait'], { input: payload, timeoutMs: 120_000 });
    return performance.now() - beganMs;
  }
}
