/** A device whose client, in a thread of its own, has the memory and is asked for each transfer. */
import type { GuestMemoryOptions } from './guest-memory.js';
import { RemoteClient } from './remote-client.test.helper.js';
import { Rig } from './rig.test.helper.js';

export interface MessageRig {
  readonly rig: Rig;
  readonly client: RemoteClient;
}

/** The client, which is not connected, has `length` bytes at `base`: as `byte` says, by their offsets. */
export async function messageRig(
  messages: NonNullable<GuestMemoryOptions['messages']>,
  base: number,
  length: number,
  byte: (at: number) => number,
): Promise<MessageRig & AsyncDisposable> {
  const rig = await Rig.start({ messages });
  const client = new RemoteClient(base, length);
  client.memory.forEach((_, at) => (client.memory[at] = byte(at) & 0xff));
  return {
    rig,
    client,
    [Symbol.asyncDispose]: async () => {
      await client[Symbol.asyncDispose]();
      await rig[Symbol.asyncDispose]();
    },
  };
}
