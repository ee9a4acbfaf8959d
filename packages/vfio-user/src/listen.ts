/** A UNIX socket for the clients of one device. */
import { lstatSync, rmSync, statSync } from 'node:fs';
import { createServer, createConnection, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { ConfigError } from '@remora/core';

/** What the kernel takes as the name of a socket, without the NUL at its end. */
const LONGEST_PATH = 107;

/**
 * Listens at `path`; `take` gets each client. A socket that a dead server left there is taken over. Disposing of the result ends the
 * listening and removes the socket; connections are the taker's to end.
 * @throws ConfigError if that cannot be: the path is too long or in no folder, something else is there, or a server that is alive.
 */
export async function listen(path: string, take: (stream: Socket) => void): Promise<Disposable> {
  await claimSocketPath(path);
  const server = createServer(take);
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', cause => reject(new ConfigError('socket', `${path}: ${cause.message}`, { cause })));
    server.listen(path);
  });
  return { [Symbol.dispose]: () => void server.close() };
}

/** A socket that a dead server left at `path` is removed. @throws ConfigError if nobody can listen there. */
export async function claimSocketPath(path: string): Promise<void> {
  const bytes = Buffer.byteLength(path);
  if (bytes > LONGEST_PATH)
    throw new ConfigError('socket', `${path} is ${bytes} bytes long, and a socket's name ${LONGEST_PATH} at most`);
  if (statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory() !== true)
    throw new ConfigError('socket', `${dirname(path)} is no folder`);
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there !== undefined) {
    if (!there.isSocket()) throw new ConfigError('socket', `${path} is there already, and no socket`);
    if (await answers(path)) throw new ConfigError('socket', `${path} is in use: something listens there`);
    rmSync(path, { force: true });
  }
}

/** Whether somebody accepts connections there. */
function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = createConnection(path);
    const say = (alive: boolean) => () => {
      socket.destroy();
      resolve(alive);
    };
    socket.once('connect', say(true)).once('error', say(false));
  });
}
