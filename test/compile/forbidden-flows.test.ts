/** Which tracked connections a policy forbids, read from listings as the kernel and conntrack print them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { forbiddenFlows } from '../../src/compile/forbidden-flows.ts';
import { connectionsIn } from '../../src/drivers/conntrack-list.ts';
import { policyModel } from '../../src/policy/evaluate.ts';
import { aPolicy, aWorkload } from './state.ts';

// web is .2, db is .3, the node .1; the second line goes through a virtual IP, the third comes from the node, the last is over.
const LISTING = `tcp      6 431999 ESTABLISHED src=10.200.1.2 dst=10.200.1.3 sport=47828 dport=5432 src=10.200.1.3 dst=10.200.1.2 sport=5432 dport=47828 [ASSURED] mark=0 use=1
tcp      6 300 ESTABLISHED src=10.200.1.2 dst=10.201.0.1 sport=48618 dport=80 src=10.200.1.3 dst=10.200.1.2 sport=5432 dport=48618 [ASSURED] mark=0 use=1
ipv4     2 tcp      6 431999 ESTABLISHED src=10.200.1.1 dst=10.200.1.3 sport=37358 dport=5432 src=10.200.1.3 dst=10.200.1.1 sport=5432 dport=37358 [ASSURED] mark=0 zone=0 use=2
ipv4     2 udp      17 29 src=10.200.1.2 dst=10.200.1.3 sport=37237 dport=53 [UNREPLIED] src=10.200.1.3 dst=10.200.1.2 sport=53 dport=37237 mark=0 zone=0 use=2
icmp     1 29 src=10.200.1.2 dst=10.200.1.3 type=8 code=0 id=7 src=10.200.1.3 dst=10.200.1.2 type=0 code=0 id=7 mark=0 use=1
tcp      6 100 SYN_SENT src=10.200.1.3 dst=192.0.2.7 sport=40000 dport=443 [UNREPLIED] src=192.0.2.7 dst=203.0.113.9 sport=443 dport=40000 mark=0 use=1
udp      17 29 src=192.0.2.1 dst=192.0.2.2 sport=1 dport=53 src=192.0.2.2 dst=192.0.2.1 sport=53 dport=1 mark=0 use=1
tcp      6 10 TIME_WAIT src=10.200.1.2 dst=10.200.1.3 sport=47829 dport=5432 src=10.200.1.3 dst=10.200.1.2 sport=5432 dport=47829 [ASSURED] mark=0 use=1
`;

const web = aWorkload({ name: 'web', ip: '10.200.1.2', labels: { app: 'web' } });
const db = aWorkload({ name: 'db', ip: '10.200.1.3', labels: { app: 'db' } });
const workloads = new Map([web, db].map((workload) => [workload.ip, workload]));

function forbidden(policies: Parameters<typeof aPolicy>[0][]): string[] {
  const model = policyModel({ policies: policies.map(aPolicy), namespaces: new Map() });
  const flows = forbiddenFlows({ connections: connectionsIn(LISTING), model, workloads, isLocal: (ip) => ip === '10.200.1.1' });
  return flows.map(({ protocol, from, dialled, endpoint }) => `${protocol} ${from} ${dialled.ip}:${dialled.port} ${endpoint.ip}:${endpoint.port}`);
}

test('every line is read, in either form', () => {
  assert.equal(connectionsIn(LISTING).length, 8);
});

test('what is denied is found also behind a virtual IP; the node reaches its workloads, and what is over is left alone', () => {
  assert.deepEqual(forbidden([{ selector: { app: 'db' }, ingress: [] }]), [
    'tcp 10.200.1.2 10.200.1.3:5432 10.200.1.3:5432',
    'tcp 10.200.1.2 10.201.0.1:80 10.200.1.3:5432',
    'udp 10.200.1.2 10.200.1.3:53 10.200.1.3:53',
    'icmp 10.200.1.2 10.200.1.3:0 10.200.1.3:0',
  ]);
});

test('what rules allow stays: by the port of the endpoint, and what has no ports only by rules without', () => {
  assert.deepEqual(forbidden([{ selector: { app: 'db' }, ingress: [{ protocol: 'tcp' }, { protocol: 'udp' }], egress: [] }]), [
    'icmp 10.200.1.2 10.200.1.3:0 10.200.1.3:0',
    'tcp 10.200.1.3 192.0.2.7:443 192.0.2.7:443',
  ]);
  assert.deepEqual(forbidden([{ selector: {}, ingress: [{}] }]), []);
  assert.deepEqual(forbidden([{ selector: {}, ingress: [], egress: [], mode: 'audit' }]), []);
});
