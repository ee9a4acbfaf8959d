/** Interrupts by event descriptors (linux/vfio.h: VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_SET_IRQS). */
import { writeSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { Errno } from '@remora/core';
import { Capability, Config } from '@remora/pci';
import { VfioIrqInfoFlag, VfioIrqSetFlag, VfioPciIrq, VfioPciRegion } from '@remora/uapi';
import type { VfioUserClient } from '../client.js';
import { Doorbell, enable, errno, Reg, type Rig, word } from '../rig.test.helper.js';
import type { Descriptors } from './descriptors.js';
import { Event, opened, start, withDescriptors } from './descriptors.test.helper.js';

const { INTX, MSI, MSIX } = VfioPciIrq;
const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = VfioIrqSetFlag;
const { CONFIG } = VfioPciRegion;
const MSIX_ENABLE = 0x8000;
/** The table comes first, the pending bits after it. */
const MSIX_BAR = 4;
const PENDING = 0x800;

function events(t: ExecutionContext, system: Descriptors, count: number): Event[] {
  const made = Array.from({ length: count }, () => new Event(system));
  t.teardown(() => {
    for (const each of made) each[Symbol.dispose]();
  });
  return made;
}

const half = (value: number): Uint8Array => new Uint8Array(Uint16Array.of(value).buffer);
const ring = (client: VfioUserClient, doorbell: number, vector = 0): Promise<void> =>
  client.write(0, Reg.DOORBELL, word(doorbell | (vector << 8)));
const interrupt = (client: VfioUserClient, vector: number): Promise<void> => ring(client, Doorbell.INTERRUPT, vector);

async function enableMsix(rig: Rig, client: VfioUserClient, on = true): Promise<void> {
  const at = rig.device.fn.capabilities.find(Capability.MSIX)!;
  await client.write(CONFIG, at + 2, half(on ? MSIX_ENABLE : 0));
}

withDescriptors('every kind of interrupt is shown, with what can be done about it', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = VfioIrqInfoFlag;
  t.deepEqual(await client.irqInfo(INTX), { flags: EVENTFD | MASKABLE | AUTOMASKED, count: 1 });
  t.deepEqual(await client.irqInfo(MSI), { flags: EVENTFD | NORESIZE, count: 4 });
  t.deepEqual(await client.irqInfo(MSIX), { flags: EVENTFD | NORESIZE, count: 4 });
  const config = await client.read(CONFIG, 0, 256);
  t.deepEqual(config, rig.device.fn.config.bytes, "configuration space is the function's own");
  t.is(config[Config.INTERRUPT_PIN], 1);
});

withDescriptors('MSI-X: vectors in any order, replaced, taken away, and all at once', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  await enableMsix(rig, client);
  const [a, b, c] = events(t, system, 3) as [Event, Event, Event];
  await client.setEvents(ACTION_TRIGGER, MSIX, 1, [a.fd, b.fd]);
  await interrupt(client, 2);
  t.deepEqual([a.take(), b.take()], [0, 1]);
  await interrupt(client, 1);
  await interrupt(client, 1);
  t.deepEqual([a.take(), b.take()], [2, 0]);
  await client.setEvents(ACTION_TRIGGER, MSIX, 1, [c.fd]);
  t.deepEqual([a.copies(), b.copies(), c.copies()], [1, 2, 2], 'what is replaced is closed');
  await interrupt(client, 1);
  t.deepEqual([a.take(), c.take()], [0, 1]);
  await client.setEvents(ACTION_TRIGGER, MSIX, 1, [], 1);
  t.is(c.copies(), 1);
  await client.setIrqs(ACTION_TRIGGER | DATA_NONE, MSIX, 0, 0);
  t.is(b.copies(), 1);
  await interrupt(client, 2);
  t.is(b.take(), 0);
  t.is(client.writes.length, 0, 'no message goes to an address that only the server knows');
});

withDescriptors(
  'MSI-X: what is raised before there is a descriptor, or while it is masked, is pending',
  async (t, system) => {
    await using rig = await start(system);
    using client = await rig.connect();
    await enable(client);
    await enableMsix(rig, client);
    await client.write(CONFIG, Config.BAR0 + 4 * MSIX_BAR, word(0xfe00_0000));
    const [a] = events(t, system, 1) as [Event];
    await interrupt(client, 3);
    t.is(await client.readNumber(MSIX_BAR, PENDING, 4), 8);
    await client.setEvents(ACTION_TRIGGER, MSIX, 3, [a.fd]);
    t.is(a.take(), 1);
    t.is(await client.readNumber(MSIX_BAR, PENDING, 4), 0);
    await client.setIrqs(ACTION_MASK | DATA_NONE, MSIX, 3, 1);
    await interrupt(client, 3);
    await interrupt(client, 3);
    t.is(a.take(), 0);
    t.is(await client.readNumber(MSIX_BAR, PENDING, 4), 8);
    await client.setIrqs(ACTION_UNMASK | DATA_BOOL, MSIX, 2, 2, Uint8Array.of(1, 0));
    t.is(a.take(), 0, 'it was another that was unmasked');
    await client.setIrqs(ACTION_UNMASK | DATA_BOOL, MSIX, 2, 2, Uint8Array.of(0, 1));
    t.is(a.take(), 1);
  },
);

withDescriptors('MSI-X: a reset of the device leaves the descriptors, and what they are for', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  const [a] = events(t, system, 1) as [Event];
  await client.setEvents(ACTION_TRIGGER, MSIX, 0, [a.fd]);
  await client.reset();
  await enable(client);
  await enableMsix(rig, client);
  await interrupt(client, 0);
  t.is(a.take(), 1);
});

withDescriptors('MSI: by descriptor where a vector has one, else as a message', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const at = rig.device.fn.capabilities.find(Capability.MSI)!;
  await client.write(CONFIG, at + 4, word(0xfee0_1000));
  await client.write(CONFIG, at + 12, half(0x40));
  await client.write(CONFIG, at + 2, half(1 | (2 << 4)));
  const [a, b] = events(t, system, 2) as [Event, Event];
  await client.setEvents(ACTION_TRIGGER, MSI, 0, [a.fd, b.fd]);
  await interrupt(client, 1);
  t.deepEqual([a.take(), b.take()], [0, 1]);
  await interrupt(client, 3);
  await client.written(1);
  t.deepEqual([...client.writes[0]!.data], [0x43, 0, 0, 0]);
  await client.setIrqs(ACTION_MASK | DATA_NONE, MSI, 0, 2);
  await interrupt(client, 0);
  await interrupt(client, 0);
  t.deepEqual([a.take(), b.take()], [0, 0]);
  await client.setIrqs(ACTION_UNMASK | DATA_NONE, MSI, 0, 2);
  t.deepEqual([a.take(), b.take()], [1, 0], 'once, however often it was raised');
});

withDescriptors('INTx: a level, which masks itself until the client lifts the mask', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const [pin] = events(t, system, 1) as [Event];
  const unmask = (): Promise<void> => client.setIrqs(ACTION_UNMASK | DATA_NONE, INTX, 0, 1);
  await client.setEvents(ACTION_TRIGGER, INTX, 0, [pin.fd]);
  t.is(pin.take(), 0);
  await ring(client, Doorbell.ASSERT);
  t.is(pin.take(), 1);
  await ring(client, Doorbell.RELEASE);
  await ring(client, Doorbell.ASSERT);
  t.is(pin.take(), 0, 'it is masked');
  await unmask();
  t.is(pin.take(), 1, 'it is still asserted');
  await ring(client, Doorbell.RELEASE);
  await unmask();
  t.is(pin.take(), 0);
  await client.setIrqs(ACTION_MASK | DATA_BOOL, INTX, 0, 1, Uint8Array.of(1));
  await ring(client, Doorbell.ASSERT);
  t.is(pin.take(), 0);
  await client.write(CONFIG, Config.COMMAND, half(0x406));
  await unmask();
  t.is(pin.take(), 0, 'COMMAND disables it');
  await client.write(CONFIG, Config.COMMAND, half(0x006));
  t.is(pin.take(), 1);
  await client.setIrqs(ACTION_TRIGGER | DATA_NONE, INTX, 0, 0);
  t.is(pin.copies(), 1);
});

withDescriptors('INTx: asserted before there is a descriptor', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  await ring(client, Doorbell.ASSERT);
  const [pin] = events(t, system, 1) as [Event];
  await client.setEvents(ACTION_TRIGGER, INTX, 0, [pin.fd]);
  t.is(pin.take(), 1);
});

withDescriptors("INTx: the mask lifted by a descriptor of the client's", async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  const [pin, resample, other] = events(t, system, 3) as [Event, Event, Event];
  await client.setEvents(ACTION_TRIGGER, INTX, 0, [pin.fd]);
  await client.setEvents(ACTION_UNMASK, INTX, 0, [resample.fd]);
  await ring(client, Doorbell.ASSERT);
  t.is(pin.take(), 1);
  const signal = new Uint8Array(BigUint64Array.of(1n).buffer);
  writeSync(resample.fd, signal);
  let again = 0;
  while (again === 0) {
    await client.readNumber(0, 0, 4);
    again = pin.take();
  }
  t.is(again, 1);
  await client.setEvents(ACTION_UNMASK, INTX, 0, [other.fd]);
  t.is(resample.copies(), 1);
  await client.setEvents(ACTION_UNMASK, INTX, 0, [], 1);
  t.is(other.copies(), 1);
  await client.setEvents(ACTION_UNMASK, INTX, 0, [other.fd]);
  await client.setIrqs(ACTION_TRIGGER | DATA_NONE, INTX, 0, 0);
  t.deepEqual([pin.copies(), other.copies()], [1, 1]);
});

withDescriptors('the client triggers vectors itself', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  const [a, b, pin] = events(t, system, 3) as [Event, Event, Event];
  await client.setEvents(ACTION_TRIGGER, MSIX, 0, [a.fd, b.fd]);
  await client.setEvents(ACTION_TRIGGER, INTX, 0, [pin.fd]);
  await client.setIrqs(ACTION_TRIGGER | DATA_BOOL, MSIX, 0, 3, Uint8Array.of(0, 1, 1));
  t.deepEqual([a.take(), b.take()], [0, 1]);
  await client.setIrqs(ACTION_TRIGGER | DATA_NONE, MSIX, 0, 2);
  t.deepEqual([a.take(), b.take()], [1, 1]);
  await client.setIrqs(ACTION_TRIGGER | DATA_NONE, INTX, 0, 1);
  t.is(pin.take(), 1);
});

withDescriptors('what cannot be is refused, and closed', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  const [a, b] = events(t, system, 2) as [Event, Event];
  const set = (action: number, index: number, start: number, fds: number[], count?: number): Promise<number> =>
    errno(client.setEvents(action, index, start, fds, count));
  t.is(await set(ACTION_TRIGGER, MSIX, 3, [a.fd, b.fd]), Errno.EINVAL, 'beyond the last');
  t.is(await set(ACTION_TRIGGER, MSIX, 0, [a.fd, b.fd], 3), Errno.EINVAL, 'not as many as vectors');
  t.is(await set(ACTION_TRIGGER, MSIX, 0, [a.fd, b.fd], 1), Errno.EINVAL);
  t.is(await set(ACTION_TRIGGER, MSIX, 0, [a.fd, opened(t, rig.file)]), Errno.EINVAL, 'no event descriptor');
  t.is(await set(ACTION_TRIGGER, VfioPciIrq.ERR, 0, [a.fd]), Errno.EINVAL);
  t.is(await set(ACTION_MASK, INTX, 0, [a.fd]), Errno.EOPNOTSUPP);
  t.is(await set(ACTION_UNMASK, MSIX, 0, [a.fd]), Errno.EOPNOTSUPP);
  t.is(await errno(client.setIrqs(ACTION_MASK | DATA_NONE, MSIX, 0, 0)), Errno.EINVAL);
  t.is(await errno(client.setIrqs(ACTION_MASK | DATA_NONE, MSIX, 0, 5)), Errno.EINVAL);
  t.is(await errno(client.setIrqs(ACTION_TRIGGER | ACTION_MASK | DATA_EVENTFD, MSIX, 0, 1)), Errno.EINVAL);
  t.deepEqual([a.copies(), b.copies()], [1, 1]);
});

withDescriptors('an event descriptor that is full keeps nobody waiting', async (t, system) => {
  await using rig = await start(system);
  using client = await rig.connect();
  await enable(client);
  await enableMsix(rig, client);
  const [a] = events(t, system, 1) as [Event];
  writeSync(a.fd, new Uint8Array(BigUint64Array.of(2n ** 64n - 2n).buffer));
  await client.setEvents(ACTION_TRIGGER, MSIX, 0, [a.fd]);
  await interrupt(client, 0);
  t.is(await client.readNumber(0, Reg.RESULT, 4), 0);
});

withDescriptors(
  'a client that leaves takes its descriptors with it; the next one has none of them',
  async (t, system) => {
    await using rig = await start(system);
    const [a, pin, resample] = events(t, system, 3) as [Event, Event, Event];
    const client = await rig.connect();
    await client.setEvents(ACTION_TRIGGER, MSIX, 0, [a.fd]);
    await client.setEvents(ACTION_TRIGGER, INTX, 0, [pin.fd]);
    await client.setEvents(ACTION_UNMASK, INTX, 0, [resample.fd]);
    t.deepEqual([a.copies(), pin.copies(), resample.copies()], [2, 2, 2]);
    client[Symbol.dispose]();
    using next = await rig.connect();
    t.deepEqual([a.copies(), pin.copies(), resample.copies()], [1, 1, 1]);
    await enable(next);
    await enableMsix(rig, next);
    await interrupt(next, 0);
    t.is(a.take(), 0);
    const [own] = events(t, system, 1) as [Event];
    await next.setEvents(ACTION_TRIGGER, MSIX, 0, [own.fd]);
    t.is(own.take(), 1, 'the device still has it pending');
  },
);
