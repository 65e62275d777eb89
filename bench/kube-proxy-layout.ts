/** The nat rules that kube-proxy's iptables mode writes for the same services: a flat list, a chain per service and one per endpoint. */
import { createHash } from 'node:crypto';
import type { Service } from '../src/model/service.ts';

/** What kube-proxy has put in place before its first restore. */
export const KUBE_PROXY_JUMPS = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
COMMIT
`;

/** One payload of 5 + S (2 + 3 E) rules for S services of E endpoints. */
export function kubeProxyPayload(services: readonly Service[]): string {
  const chains = ['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ'];
  const rules = [
    '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
  ];
  for (const service of services) {
    const name = `${service.namespace}/${service.name}`;
    const serviceChain = `KUBE-SVC-${hashOf(name)}`;
    const [port] = service.ports;
    const to = `-d ${service.clusterIp}/32 -p tcp -m comment --comment "${name} cluster IP" -m tcp --dport ${port?.port ?? 0}`;
    chains.push(serviceChain);
    rules.push(`-A KUBE-SERVICES ${to} -j ${serviceChain}`, `-A ${serviceChain} ! -s 10.200.0.0/16 ${to} -j KUBE-MARK-MASQ`);
    for (const [index, endpoint] of service.endpoints.entries()) {
      const target = `${endpoint.ip}:${endpoint.port ?? 0}`;
      const endpointChain = `KUBE-SEP-${hashOf(`${name} ${target}`)}`;
      const left = service.endpoints.length - index;
      const share = left === 1 ? '' : ` -m statistic --mode random --probability ${(1 / left).toFixed(10)}`;
      chains.push(endpointChain);
      rules.push(
        `-A ${serviceChain} -m comment --comment "${name} -> ${target}"${share} -j ${endpointChain}`,
        `-A ${endpointChain} -s ${endpoint.ip}/32 -m comment --comment "${name}" -j KUBE-MARK-MASQ`,
        `-A ${endpointChain} -p tcp -m comment --comment "${name}" -m tcp -j DNAT --to-destination ${target}`,
      );
    }
  }
  rules.push('-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS');
  return `*nat\n${chains.map((chain) => `:${chain} - [0:0]\n`).join('')}${rules.join('\n')}\nCOMMIT\n`;
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16).toUpperCase();
}
