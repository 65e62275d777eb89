/** Carries a request's body from the client to an upstream connection without tying the client's socket to that connection's fate. */
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';

export interface Upload {
  /** Undici destroys its body when an upstream answers early or dies; the client's connection must survive that. */
  readonly stream: Readable;
  /** Whether anything of the body has been taken: from then on the request cannot be repeated. */
  readonly consumed: () => boolean;
}

/** `onTooLarge` is called once, in place of the chunk that would pass `maxBytes`. */
export function openUpload(request: IncomingMessage, { maxBytes, onTooLarge }: { maxBytes: number; onTooLarge: () => void }): Upload {
  let bytes = 0;
  let attached = false;
  const onData = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > maxBytes) {
      detach();
      onTooLarge();
    } else if (!stream.push(chunk)) {
      request.pause();
    }
  };
  const onEnd = (): void => {
    stream.push(null);
  };
  const detach = (): void => {
    request.off('data', onData).off('end', onEnd);
    request.pause();
  };
  const stream = new Readable({
    read() {
      if (!attached) request.on('data', onData).on('end', onEnd);
      attached = true;
      request.resume();
    },
    destroy(_error, done) {
      detach();
      // The one who destroyed it knows why; an 'error' event without a listener would end the process.
      done(null);
    },
  });
  return { stream, consumed: () => bytes > 0 || request.readableEnded };
}
