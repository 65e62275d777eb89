/** Which TCP translations drain, which connections count as open, and at which end one is ended. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endpointLookup } from '../../src/compile/endpoints.ts';
import { isLive, localEnd, tcpFlowKey, tcpFlows, type TcpConnection } from '../../src/compile/tcp-flows.ts';
import { tcpConnectionsIn } from '../../src/drivers/conntrack-list.ts';
import { aService, aWorkload, desired, observed } from './state.ts';

const server = aWorkload({});
const client = aWorkload({ name: 'client', id: '0000000c', ip: '10.200.1.9' });
const workloads = new Map([server, client].map((workload) => [String(workload.ip), workload]));

/** As conntrack prints it: a client of the node, one that is a workload, a direct one, one that lingers, with counters, and half open. */
const LISTING = `tcp      6 431998 ESTABLISHED src=10.200.1.1 dst=10.201.0.1 sport=40000 dport=80 src=10.200.1.2 dst=10.200.1.1 sport=8080 dport=40000 [ASSURED] mark=0 use=1
tcp      6 431998 ESTABLISHED src=10.200.1.9 dst=10.201.0.1 sport=40001 dport=80 src=192.0.2.7 dst=192.0.2.1 sport=7000 dport=61001 [ASSURED] mark=0 use=1
tcp      6 431998 ESTABLISHED src=10.200.1.1 dst=10.200.1.2 sport=40002 dport=8080 packets=3 bytes=164 src=10.200.1.2 dst=10.200.1.1 sport=8080 dport=40002 packets=2 bytes=112 [ASSURED] mark=0 use=1
tcp      6 110 TIME_WAIT src=10.200.1.1 dst=10.201.0.1 sport=40003 dport=80 src=192.0.2.7 dst=192.0.2.1 sport=7000 dport=61003 [ASSURED] mark=0 use=1
tcp      6 110 SYN_SENT src=198.51.100.1 dst=10.201.0.1 sport=40004 dport=80 [UNREPLIED] src=192.0.2.7 dst=198.51.100.1 sport=7000 dport=40004 mark=0 use=1
udp      17 20 src=10.200.1.1 dst=10.201.0.1 sport=5000 dport=53 src=10.200.1.2 dst=10.200.1.1 sport=5300 dport=5000 mark=0 use=1
conntrack v1.4.7 (conntrack-tools): 6 flow entries have been shown.
`;

test('the translations of a service are those of its healthy endpoints and TCP ports; a connection knows its own', () => {
  const service = aService({
    selector: { app: 'web' },
    manyPorts: true,
    ports: [
      { name: 'http', port: 80, protocol: 'tcp', targetPort: 8080 },
      { name: 'dns', port: 53, protocol: 'udp' },
    ],
  });
  const state = desired({ services: [service], workloads: [server, client] });
  const flows = tcpFlows(service, endpointLookup(state, observed([server, client], { '0000000c': 'restarting' }))(service));
  assert.deepEqual([...flows.keys()], ['10.201.0.1:80 10.200.1.2:8080']);
  const connections = tcpConnectionsIn(LISTING);
  assert.deepEqual(
    connections.map((connection) => [tcpFlowKey(connection), isLive(connection)]),
    [
      ['10.201.0.1:80 10.200.1.2:8080', true],
      ['10.201.0.1:80 192.0.2.7:7000', true],
      ['10.200.1.2:8080 10.200.1.2:8080', true],
      ['10.201.0.1:80 192.0.2.7:7000', false],
      ['10.201.0.1:80 192.0.2.7:7000', false],
    ],
  );
});

test('a connection is ended at its endpoint when that is a workload here, else at its client, if that is here', () => {
  const here = { workloads, nodeIp: '10.200.1.1' };
  const ends = tcpConnectionsIn(LISTING).map((connection: TcpConnection) => localEnd(connection, here));
  assert.deepEqual(ends, [
    { netns: 'claw-0000000a', local: { ip: '10.200.1.2', port: 8080 }, remote: { ip: '10.200.1.1', port: 40_000 } },
    { netns: 'claw-0000000c', local: { ip: '10.200.1.9', port: 40_001 }, remote: { ip: '10.201.0.1', port: 80 } },
    { netns: 'claw-0000000a', local: { ip: '10.200.1.2', port: 8080 }, remote: { ip: '10.200.1.1', port: 40_002 } },
    { netns: undefined, local: { ip: '10.200.1.1', port: 40_003 }, remote: { ip: '10.201.0.1', port: 80 } },
    undefined,
  ]);
});
