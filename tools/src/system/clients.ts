/** A server of any number of clients, at once or one after the other. */
import { lstatSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import type { Address } from '@remora/qtest';

/** Listens, and gives each client to `take`. Disposing of the result ends the server and what `take` returned. */
export async function acceptClients(
  address: Exclude<Address, { kind: 'stdio' }>,
  take: (stream: Socket) => Disposable,
): Promise<Disposable> {
  const serving = new Set<Disposable>();
  const server = createServer(socket => {
    const served = take(socket.setNoDelay(true));
    serving.add(served);
    socket.once('close', () => serving.delete(served));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve).once('error', reject);
    if (address.kind === 'tcp') server.listen(address.port, address.host);
    else {
      // A socket that was left there is taken over.
      if (lstatSync(address.path, { throwIfNoEntry: false })?.isSocket() === true) rmSync(address.path);
      server.listen(address.path);
    }
  });
  return {
    [Symbol.dispose]: () => {
      server.close();
      for (const each of serving) each[Symbol.dispose]();
    },
  };
}
