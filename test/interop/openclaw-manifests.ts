/** Policies that lock an OpenClaw gateway down: deny all, then names, HTTPS and XMPP outwards, and the control port for two namespaces. */
import { stringify } from 'yaml';

const namespace = 'openclaw';
const gateway = { matchLabels: { app: 'openclaw' } };

const policy = (name: string, spec: Readonly<Record<string, unknown>>): string =>
  stringify({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name, namespace }, spec });

const port = (number: number, protocol = 'TCP') => ({ protocol, port: number });
const named = (name: string) => ({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } } });

export const OPENCLAW_POLICIES = [
  policy('default-deny', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] }),
  policy('allow-dns', { podSelector: gateway, policyTypes: ['Egress'], egress: [{ to: [{ namespaceSelector: {} }], ports: [port(53, 'UDP'), port(53)] }] }),
  policy('allow-external-apis', { podSelector: gateway, policyTypes: ['Egress'], egress: [{ ports: [port(443)] }, { ports: [port(5222)] }] }),
  policy('allow-ingress', { podSelector: gateway, policyTypes: ['Ingress'], ingress: [{ from: [named('ingress-nginx'), named('monitoring')], ports: [port(18_789)] }] }),
].join('---\n');

/** Names instead of addresses, which is not enforced: refused as a whole. */
export const OPENCLAW_CILIUM = stringify({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'openclaw-egress', namespace },
  spec: { endpointSelector: gateway, egress: [{ toFQDNs: [{ matchName: 'api.example.com' }], toPorts: [{ ports: [{ port: '443', protocol: 'TCP' }] }] }] },
});
