/** One TCP connection that lives as long as the test and says when it was broken or delayed for good. */
import { connect } from 'node:net';
import type { Target } from './fixture-requests.ts';

export interface LongLived {
  /** Ends it; the number of lines that came back, and what broke it if anything did. */
  stop(): { echoes: number; failure?: string };
}

const EVERY_MS = 20;
/** More outstanding lines than a pause of the machine explains: they were sent over more than ten seconds. */
const MOST_OUTSTANDING = 500;

export function keepEchoing({ host, port }: Target): LongLived {
  const socket = connect({ host, port });
  let sent = 0;
  let echoes = 0;
  let failure: string | undefined;
  const failed = (reason: string): void => void (failure ??= reason);
  socket.setEncoding('latin1').on('data', (text: string) => (echoes += text.split('\n').length - 1));
  socket.on('error', (error) => failed(String(error)));
  socket.on('close', () => failed('closed by the other side'));
  const timer = setInterval(() => {
    if (socket.writable) socket.write(`${sent}\n`);
    sent += 1;
    if (sent - echoes > MOST_OUTSTANDING) failed(`${sent - echoes} lines did not come back`);
  }, EVERY_MS);
  return {
    stop: () => {
      clearInterval(timer);
      const outcome = { echoes, ...(failure === undefined ? {} : { failure }) };
      socket.destroy();
      return outcome;
    },
  };
}
