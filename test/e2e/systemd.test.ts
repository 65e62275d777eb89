/** The service under a real systemd: it starts and is ready, workloads and ingress outlive its stop, its restart and its death, and it goes again. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { launcher, runProcess } from '../cli/cli-process.ts';
import { eventually } from '../cli/sandbox-fixture.ts';
import { bootSystemd } from './fixture-systemd.ts';

const WORKLOAD = 64_001;
const SERVER = "require('http').createServer((request, response) => response.end('hello ' + process.pid)).listen(8080)";
const CONFIG = `workloads: {process: {enabled: true, uid: ${WORKLOAD}}}\ningress: {port: 443}`;

test('the unit is one that systemd takes as it is, with this machine and this program', async () => {
  const root = await mkdtemp(join(tmpdir(), 'claw-systemd-'));
  try {
    assert.equal((await runProcess([process.execPath, launcher, 'install-service', '--root', root, '--force'])).exitCode, 0);
    assert.deepEqual(await runProcess(['systemd-analyze', 'verify', '--man=no', join(root, 'etc/systemd/system/clawnode.service')]), { exitCode: 0, signal: null, stdout: '', stderr: '' });
  } finally {
    await rm(root, { recursive: true });
  }
});

const machine = await bootSystemd();
if (machine !== undefined) {
  const clawnode = (...args: string[]) => machine.run([process.execPath, launcher, ...args]);
  const invoke = async (command: string, params: unknown = {}): Promise<string> => machine.output([process.execPath, launcher, 'invoke', command, JSON.stringify(params)]);
  const property = async (name: string): Promise<string> => (await machine.output(['systemctl', 'show', '--value', '--property', name, 'clawnode'])).trim();
  const curl = (...args: string[]): Promise<string> => machine.output(['curl', '--silent', '--show-error', '--fail', '--max-time', '5', '--retry', '10', '--retry-all-errors', '--retry-delay', '1', ...args]);
  const serves = async (): Promise<string> => {
    const answer = await curl('http://10.201.0.1/');
    assert.equal(await curl('-H', 'Host: www.example.com', 'http://127.0.0.1:443/'), answer);
    return answer;
  };

  void suite('the service', { concurrency: 1 }, () => {
    let hello = '';
    after(() => machine.close());

    test('is installed, enabled and started by one command, which returns when the agent answers', async () => {
      await machine.output(['sh', '-c', 'mkdir -p /etc/clawnode && printf "%s\\n" "$1" >/etc/clawnode/config.yaml', 'sh', CONFIG]);
      const { exitCode, stdout, stderr } = await clawnode('install-service', '--start', '--force');
      assert.equal(exitCode, 0, stderr);
      assert.match(stdout, /^enabled and started: clawnode \d+\.\d+\.\d+, node \S+, pid \d+$/m);
      assert.deepEqual([await property('ActiveState'), await property('UnitFileState')], ['active', 'enabled']);
      assert.match(await machine.output(['stat', '-c', '%a %U:%G', '/run/clawnode/agent.sock', '/var/lib/clawnode']), /^660 root:clawnode\n700 root:root$/m);
      assert.match((await clawnode('doctor', '--all')).stdout, /^ +ok +systemd: runs the agent, and starts it at boot$/m);
    });

    test('runs workloads under its filters', async () => {
      await invoke('workload.run', { name: 'a', labels: { app: 'web' }, command: [process.execPath, '-e', SERVER] });
      await invoke('service.create', { name: 'web', selector: { app: 'web' }, port: 80, targetPort: 8080 });
      await invoke('ingress.create', { name: 'front', rules: [{ host: 'www.example.com', service: 'web' }] });
      hello = await serves();
    });

    test('workload and ingress outlive its stop, and the next one takes them over', async () => {
      await machine.output(['systemctl', 'stop', 'clawnode']);
      assert.equal(await property('ActiveState'), 'inactive');
      assert.equal(await serves(), hello);
      await machine.output(['systemctl', 'start', 'clawnode']);
      assert.match(await invoke('workload.get', { name: 'a' }), /"state":"running","restarts":0/);
      assert.equal(await serves(), hello);
    });

    test('killed, it is back by itself, and nobody notices', async () => {
      const pid = await property('MainPID');
      await machine.output(['kill', '-KILL', pid]);
      assert.equal(await serves(), hello);
      await eventually(async () => ({ active: await property('ActiveState'), pid: await property('MainPID') }), (seen) => seen.active === 'active' && seen.pid !== pid);
      assert.match(await invoke('workload.get', { name: 'a' }), /"state":"running","restarts":0/);
    });

    test('installed once more, it is restarted and keeps everything; uninstalled, everything stays until the cleanup', async () => {
      assert.match((await clawnode('install-service', '--start', '--force')).stdout, /^unchanged: .*clawnode\.service\n/);
      assert.equal(await serves(), hello);
      const { exitCode, stdout } = await clawnode('uninstall-service');
      assert.equal(exitCode, 0);
      assert.match(stdout, /^removed \/etc\/systemd\/system\/clawnode\.service\n/);
      assert.equal((await machine.run(['systemctl', 'is-active', 'clawnode'])).stdout.trim(), 'inactive', (await machine.run(['journalctl', '-u', 'clawnode', '-o', 'short-precise', '-n', '60'])).stdout);
      assert.equal((await machine.run(['sh', '-c', 'ls /etc/systemd/system/multi-user.target.wants'])).stdout.includes('clawnode'), false);
      assert.equal(await serves(), hello);
      assert.match((await clawnode('cleanup')).stdout, /^clean: 1 workloads? stopped/);
      assert.doesNotMatch(await machine.output(['sh', '-c', 'cat /proc/[0-9]*/cmdline | tr "\\0" " "']), /supervise\.sh|hold\.sh|proxy\/main/);
    });

  });
}
