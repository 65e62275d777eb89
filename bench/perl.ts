/**
 * Clients and servers in Perl, which every Debian and Ubuntu has: unlike Node it calls the kernel directly, so that what is measured
 * is the kernel's. Each is an argv; clients obey lines on stdin and answer in lines on stdout.
 */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { start, type Argv } from '../src/drivers/exec.ts';

/** Accepts and closes connections on two ports. */
export const acceptServer = (port: number): Argv => ['perl', '-e', ACCEPT, String(port)];

/** A line `HOST PORT COUNT` connects so often and answers with the microseconds of each, separated by blanks. */
export const connectClient: Argv = ['perl', '-e', connectScript()];

/** Reads whatever comes, and answers with the number of bytes at the end of each connection. */
export const sinkServer = (port: number): Argv => ['perl', '-e', SINK, String(port)];

/** A line `HOST PORT SECONDS` sends so long and answers with the bytes per second that arrived. */
export const sendClient: Argv = ['perl', '-e', sendScript()];

export interface Speaker {
  ask(line: string): Promise<string>;
  end(): Promise<void>;
  /** For what does not end by itself. */
  kill(): void;
}

/** Starts the client in a network namespace, given by the path of its file. */
export function speak(netnsFile: string, client: Argv): Speaker {
  const child = start(['nsenter', `--net=${netnsFile}`, ...client], { stdio: ['pipe', 'pipe', 'inherit'] });
  if (child.stdout === null) throw new Error('the client can not be heard');
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = once(child, 'exit');
  return {
    ask: async (line) => {
      child.stdin?.write(`${line}\n`);
      const { value, done } = await answers.next();
      if (done === true) throw new Error(`the client ended at: ${line}`);
      return value;
    },
    end: async () => {
      child.stdin?.end();
      await ended;
    },
    kill: () => void child.kill('SIGKILL'),
  };
}

const ACCEPT = `use Socket;
my $port = $ARGV[0] + (fork() ? 0 : 1);
my $server; socket($server, PF_INET, SOCK_STREAM, 0) && setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1) && bind($server, sockaddr_in($port, INADDR_ANY)) && listen($server, 1024) or die "$!";
while (accept(my $client, $server)) { close $client; }`;

// A reset instead of TIME_WAIT, else the client's ports would run out.
function connectScript(): string {
  return `use Socket; use Time::HiRes "time"; $| = 1;
while (<STDIN>) {
  my ($host, $port, $count) = split; my $to = sockaddr_in($port, inet_aton($host)); my @times;
  for (1 .. $count) {
    my $socket; socket($socket, PF_INET, SOCK_STREAM, 0) && setsockopt($socket, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0)) or die "$!";
    my $began = time; connect($socket, $to) or die "connect: $!"; push @times, sprintf("%.1f", (time - $began) * 1e6);
    close $socket;
  }
  print "@times\\n";
}`;
}

const SINK = `use Socket;
my $server; socket($server, PF_INET, SOCK_STREAM, 0) && setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1) && bind($server, sockaddr_in($ARGV[0], INADDR_ANY)) && listen($server, 16) or die "$!";
while (accept(my $client, $server)) {
  my ($total, $got) = (0);
  $total += $got while $got = sysread($client, my $buffer, 1 << 20);
  syswrite($client, "$total\\n"); close $client;
}`;

function sendScript(): string {
  return `use Socket; use Time::HiRes "time"; $| = 1; my $block = "x" x (1 << 20);
while (<STDIN>) {
  my ($host, $port, $seconds) = split;
  my $socket; socket($socket, PF_INET, SOCK_STREAM, 0) && connect($socket, sockaddr_in($port, inet_aton($host))) or die "connect: $!";
  my $began = time;
  while (time - $began < $seconds) { syswrite($socket, $block) or die "$!"; }
  shutdown($socket, 1);
  my $total = <$socket>; die "no answer" unless defined $total;
  printf "%.0f\\n", $total / (time - $began);
  close $socket;
}`;
}
