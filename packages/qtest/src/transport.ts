/** Where a stream of bytes comes from: a socket, connected or awaited, or standard input and output. */
import { lstatSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** A way to the other side. */
export type Address =
  | { readonly kind: 'unix'; readonly path: string; readonly server: boolean }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly server: boolean }
  | { readonly kind: 'stdio' };

export interface OpenedTransport extends Disposable {
  /** The stream of the first connection. Rejects if there can be none. */
  readonly stream: Promise<Duplex>;
  /** Resolves as soon as a client may connect; rejects if none ever can. */
  readonly listening: Promise<void>;
}

/** Connects, or listens for one connection. Disposing of the result gives up what has not come to be; the stream is its user's. */
export function openTransport(address: Address): OpenedTransport {
  switch (address.kind) {
    case 'stdio':
      return opened(Promise.resolve(Duplex.from({ readable: process.stdin, writable: process.stdout })));
    case 'unix':
      return address.server ? listen(address, address.path) : dial({ path: address.path });
    case 'tcp':
      return address.server ? listen(address, undefined) : dial({ host: address.host, port: address.port });
    default:
      return address satisfies never;
  }
}

function opened(
  stream: Promise<Duplex>,
  listening: Promise<void> = stream.then(() => undefined),
  close: () => void = () => undefined,
): OpenedTransport {
  // Whoever waits for one of them learns of a failure; nobody has to wait for both.
  for (const each of [stream, listening]) each.catch(() => undefined);
  return { stream, listening, [Symbol.dispose]: close };
}

function dial(to: { readonly path: string } | { readonly host: string; readonly port: number }): OpenedTransport {
  const socket = connect(to);
  const stream = new Promise<Socket>((resolve, reject) => {
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket.setNoDelay(true));
    });
    socket.once('error', reject);
  });
  return opened(stream, undefined, () => {
    if (socket.connecting) socket.destroy();
  });
}

/** One connection only: a machine has one holder. A socket that was left there is taken over. */
function listen(address: Exclude<Address, { kind: 'stdio' }>, path: string | undefined): OpenedTransport {
  const server = createServer();
  if (path !== undefined && lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true) rmSync(path);
  const listening = new Promise<void>((resolve, reject) => {
    server.once('listening', resolve).once('error', reject);
  });
  const stream = new Promise<Socket>((resolve, reject) => {
    server.once('error', reject).once('connection', (socket: Socket) => {
      server.close();
      resolve(socket.setNoDelay(true));
    });
  });
  if (address.kind === 'unix') server.listen(address.path);
  else server.listen(address.port, address.host);
  return opened(stream, listening, () => void server.close());
}
