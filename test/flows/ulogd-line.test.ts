/** Lines that ulogd 2.0.8 wrote of real packets, and what is read in them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseUlogdLine } from '../../src/flows/ulogd-line.ts';

const FORWARDED_TCP =
  '{"timestamp": "2026-11-26T13:23:30.679750", "dvc": "Netfilter", "raw.pktlen": 60, "raw.pktcount": 1, "oob.prefix": "claw deny ingress ", "oob.time.sec": 1795699410, "oob.time.usec": 679750, "oob.mark": 0, "oob.ifindex_in": 2, "oob.ifindex_out": 3, "oob.hook": 2, "raw.mac_len": 14, "oob.seq.local": 0, "oob.family": 2, "oob.protocol": 2048, "raw.label": 0, "raw.type": 1, "raw.mac.addrlen": 6, "ip.protocol": 6, "ip.tos": 0, "ip.ttl": 63, "ip.totlen": 60, "ip.ihl": 5, "ip.csum": 10328, "ip.id": 64463, "ip.fragoff": 16384, "src_port": 37768, "dest_port": 5432, "tcp.seq": 2922745684, "tcp.ackseq": 0, "tcp.window": 64240, "tcp.offset": 0, "tcp.reserved": 0, "tcp.urg": 0, "tcp.ack": 0, "tcp.psh": 0, "tcp.rst": 0, "tcp.syn": 1, "tcp.fin": 0, "tcp.res1": 0, "tcp.res2": 0, "tcp.csum": 6083, "oob.in": "clawva", "oob.out": "clawvb", "src_ip": "10.200.1.2", "dest_ip": "10.200.1.3"}';
const TO_THE_NODE =
  '{"timestamp": "2026-11-26T13:23:30.680003", "dvc": "Netfilter", "raw.pktlen": 60, "raw.pktcount": 1, "oob.prefix": "claw deny host ", "oob.time.sec": 1795699410, "oob.time.usec": 680003, "oob.mark": 0, "oob.ifindex_in": 2, "oob.hook": 1, "raw.mac_len": 14, "oob.seq.local": 1, "oob.family": 2, "oob.protocol": 2048, "raw.label": 0, "raw.type": 1, "raw.mac.addrlen": 6, "ip.protocol": 6, "ip.tos": 0, "ip.ttl": 64, "ip.totlen": 60, "ip.ihl": 5, "ip.csum": 64643, "ip.id": 9894, "ip.fragoff": 16384, "src_port": 55446, "dest_port": 5432, "tcp.seq": 1358349663, "tcp.ackseq": 0, "tcp.window": 64240, "tcp.offset": 0, "tcp.reserved": 0, "tcp.urg": 0, "tcp.ack": 0, "tcp.psh": 0, "tcp.rst": 0, "tcp.syn": 1, "tcp.fin": 0, "tcp.res1": 0, "tcp.res2": 0, "tcp.csum": 6081, "oob.in": "clawva", "oob.out": "", "src_ip": "10.200.1.2", "dest_ip": "10.200.1.1"}';
const UDP =
  '{"timestamp": "2026-11-26T13:19:14.279722", "dvc": "Netfilter", "raw.pktlen": 31, "raw.pktcount": 1, "oob.prefix": "claw audit egress ", "oob.time.sec": 1795699154, "oob.time.usec": 279722, "oob.mark": 0, "oob.ifindex_out": 1, "oob.hook": 3, "oob.seq.local": 1, "oob.family": 2, "oob.protocol": 2048, "oob.uid": 0, "oob.gid": 0, "raw.label": 0, "ip.protocol": 17, "ip.tos": 0, "ip.ttl": 64, "ip.totlen": 31, "ip.ihl": 5, "ip.csum": 6223, "ip.id": 9341, "ip.fragoff": 16384, "src_port": 47283, "dest_port": 9, "udp.len": 11, "udp.csum": 65054, "oob.in": "", "oob.out": "lo", "src_ip": "127.0.0.1", "dest_ip": "127.0.0.1"}';
const PING =
  '{"timestamp": "2026-11-26T13:23:30.680143", "dvc": "Netfilter", "raw.pktlen": 28, "raw.pktcount": 1, "oob.prefix": "claw deny ingress ", "oob.time.sec": 1795699410, "oob.time.usec": 680143, "oob.mark": 0, "oob.ifindex_in": 2, "oob.ifindex_out": 3, "oob.hook": 2, "raw.mac_len": 14, "oob.seq.local": 3, "oob.family": 2, "oob.protocol": 2048, "raw.label": 0, "raw.type": 1, "raw.mac.addrlen": 6, "ip.protocol": 1, "ip.tos": 0, "ip.ttl": 63, "ip.totlen": 28, "ip.ihl": 5, "ip.csum": 2447, "ip.id": 6846, "ip.fragoff": 16384, "icmp.type": 8, "icmp.code": 0, "icmp.echoid": 1, "icmp.echoseq": 0, "icmp.csum": 65271, "oob.in": "clawva", "oob.out": "clawvb", "src_ip": "10.200.1.2", "dest_ip": "10.200.1.3"}';
const GRE =
  '{"timestamp": "2026-11-26T13:23:30.680231", "dvc": "Netfilter", "raw.pktlen": 24, "raw.pktcount": 1, "oob.prefix": "claw deny ingress ", "oob.time.sec": 1795699410, "oob.time.usec": 680231, "oob.mark": 0, "oob.ifindex_in": 2, "oob.ifindex_out": 3, "oob.hook": 2, "raw.mac_len": 14, "oob.seq.local": 4, "oob.family": 2, "oob.protocol": 2048, "raw.label": 0, "raw.type": 1, "raw.mac.addrlen": 6, "ip.protocol": 47, "ip.tos": 0, "ip.ttl": 63, "ip.totlen": 24, "ip.ihl": 5, "ip.csum": 63192, "ip.id": 11594, "ip.fragoff": 16384, "oob.in": "clawva", "oob.out": "clawvb", "src_ip": "10.200.1.2", "dest_ip": "10.200.1.3"}';
const SELF_TEST =
  '{"timestamp": "2026-11-26T13:22:49.562216", "dvc": "Netfilter", "raw.pktlen": 29, "raw.pktcount": 1, "oob.prefix": "claw selftest", "oob.time.sec": 1795699369, "oob.time.usec": 562216, "oob.mark": 0, "oob.ifindex_out": 1, "oob.hook": 3, "oob.seq.local": 0, "oob.family": 2, "oob.protocol": 2048, "oob.uid": 0, "oob.gid": 0, "raw.label": 0, "ip.protocol": 17, "ip.tos": 0, "ip.ttl": 64, "ip.totlen": 29, "ip.ihl": 5, "ip.csum": 26057, "ip.id": 48757, "ip.fragoff": 16384, "src_port": 60253, "dest_port": 9, "udp.len": 9, "udp.csum": 5804, "oob.in": "", "oob.out": "lo", "src_ip": "10.200.1.1", "dest_ip": "10.201.255.255"}';

test('a connection attempt between workloads is read with the time of the kernel', () => {
  assert.deepEqual(parseUlogdLine(FORWARDED_TCP, 0), {
    kind: 'flow',
    sequence: 0,
    event: { timeMs: 1_795_699_410_679, from: '10.200.1.2', to: '10.200.1.3', port: 5432, protocol: 'tcp', verdict: 'deny', place: 'ingress' },
  });
});

test('verdict and place come from the prefix, the protocol from the packet', () => {
  const seen = [TO_THE_NODE, UDP, PING, GRE].map((line) => {
    const parsed = parseUlogdLine(line, 0);
    assert.equal(parsed.kind, 'flow');
    const { verdict, place, protocol, port } = parsed.event;
    return [parsed.sequence, verdict, place, protocol, port];
  });
  assert.deepEqual(seen, [
    [1, 'deny', 'host', 'tcp', 5432],
    [1, 'audit', 'egress', 'udp', 9],
    [3, 'deny', 'ingress', 'icmp', undefined],
    [4, 'deny', 'ingress', '47', undefined],
  ]);
});

test('the self-test is known by its source port', () => {
  assert.deepEqual(parseUlogdLine(SELF_TEST, 0), { kind: 'self-test', sequence: 0, sourcePort: 60_253 });
});

test('what another rule logs to our group is not taken for ours, and still counts', () => {
  const foreign = FORWARDED_TCP.replace('claw deny ingress ', 'claw deny everything ').replace('"oob.seq.local": 0', '"oob.seq.local": 8');
  assert.deepEqual(parseUlogdLine(foreign, 0), { kind: 'foreign', sequence: 8 });
  assert.deepEqual(parseUlogdLine(FORWARDED_TCP.replace('"oob.prefix": "claw deny ingress ", ', ''), 0), { kind: 'foreign', sequence: 0 });
});

test('where the kernel tells no time, ours stands in', () => {
  const line = parseUlogdLine(FORWARDED_TCP.replace('"oob.time.sec": 1795699410, "oob.time.usec": 679750, ', ''), 1234);
  assert.ok(line.kind === 'flow' && line.event.timeMs === 1234);
});

test('what is no such line is an error', () => {
  for (const wrong of ['', 'WARNING', '{}', FORWARDED_TCP.slice(0, -1), FORWARDED_TCP.replace('10.200.1.3', 'fe80::1')]) {
    assert.throws(() => parseUlogdLine(wrong, 0), wrong);
  }
});
