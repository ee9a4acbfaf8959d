// An accelerator behind a vIOMMU: whatever a descriptor names is where the guest's tables say, in every mode, with PASID and without.
import { Random } from '@remora/bits';
import { Access, StateReader, StateWriter } from '@remora/core';
import { PageResponse } from '@remora/iommu';
import { owner } from '@remora/testing';
import { Command, Flag, Operation, QueueState, Reg, Status, Swerr } from '@hw/dsa';
import { descriptor, type DescriptorValues } from '@hw/dsa/driver';
import test, { type ExecutionContext } from 'ava';
import { type Both, DsaGuest, MODES, PAGE, PASID, RID } from './dsa-guest.js';

const MOVE = { operation: Operation.MEMMOVE };

for (const mode of MODES) {
  test(`${mode}: random copies over scattered pages`, t => {
    const at = owner(t)(new DsaGuest(mode));
    const random = new Random(5);
    const [source, target] = [at.page(12), at.page(12)];
    const image = new Uint8Array(12 * PAGE);
    for (let count = 0; count < 40; count++) {
      const size = 1 + random.below(8 * PAGE);
      const [from, to] = [random.below(4 * PAGE), random.below(4 * PAGE)];
      const bytes = Uint8Array.from({ length: size }, () => random.below(256));
      at.poke(source.cpu + from, bytes);
      const { status, completed } = at.run({
        ...MOVE,
        source: source.device + from,
        destination: target.device + to,
        size,
      });
      t.deepEqual([status, completed], [Status.SUCCESS, size]);
      image.set(bytes, to);
    }
    t.is(Buffer.compare(at.peek(target.cpu, image.length), image), 0);
    t.deepEqual(at.guest.iommu.handleFaults(), []);
  });
}

/** What a descriptor needs, each at a page that is not there; `write`: how it is accessed. */
const ADDRESSES: readonly [string, (gone: Both, good: Both) => DescriptorValues, boolean][] = [
  ['source', (gone, good) => ({ ...MOVE, source: gone.device, destination: good.device, size: 64 }), false],
  ['destination', (gone, good) => ({ ...MOVE, source: good.device, destination: gone.device, size: 64 }), true],
  [
    'second source',
    (gone, good) => ({ operation: Operation.COMPARE, source: good.device, destination: gone.device, size: 64 }),
    false,
  ],
  [
    'second destination',
    (gone, good) => ({
      operation: Operation.DUALCAST,
      source: good.device + 2048,
      destination: good.device,
      extra0: gone.device,
      size: 64,
    }),
    true,
  ],
  [
    'seed',
    (gone, good) => ({
      operation: Operation.CRC,
      flags: Flag.READ_CRC_SEED,
      source: good.device,
      size: 64,
      extra2: gone.device,
    }),
    false,
  ],
];

for (const mode of MODES) {
  for (const [name, make, write] of ADDRESSES) {
    test(`${mode}: no page at the ${name}: the completion record tells where`, t => {
      const at = owner(t)(new DsaGuest(mode));
      const [gone, good] = [at.hidden(), at.page()];
      // A device TLB asks, and an absent page is no fault; without one the unit refuses the access, and records that.
      const shared = mode === 'shared';
      t.like(at.run(make(gone, good)), {
        status: shared ? Status.PAGE_FAULT : Status.HARDWARE,
        write,
        fault: BigInt(gone.device),
        completed: 0,
      });
      const faults = at.guest.iommu.handleFaults();
      t.is(faults.length, shared ? 0 : 1);
      if (!shared) t.like(faults[0], { requesterId: RID, write, hi: 0, lo: gone.device });
      t.deepEqual(at.peek(gone.cpu, 64), new Uint8Array(64));
      t.is(at.run({ operation: Operation.NOOP }).status, Status.SUCCESS, 'the engine goes on');
    });
  }

  // Where pages can be requested, records and lists are waited for: see below.
  if (mode === 'shared') continue;
  test(`${mode}: no page for the record: SWERR tells`, t => {
    const at = owner(t)(new DsaGuest(mode));
    const [gone, good] = [at.hidden(), at.page(2)];
    at.submit({
      ...MOVE,
      source: good.device,
      destination: good.device + PAGE,
      size: 64,
      completion: gone.device + 64,
    });
    const words = Int32Array.from({ length: 8 }, (_, index) => at.driver.register(Reg.SWERR + 4 * index));
    t.like(Swerr.decode(words), {
      valid: 1,
      error: Status.COMPLETION_FAULT,
      write: 1,
      operation: Operation.MEMMOVE,
      pasid: mode === 'pasid' ? PASID : 0,
      addressLo: gone.device + 64,
      addressHi: 0,
    });
  });

  test(`${mode}: no page for the list of a batch`, t => {
    const at = owner(t)(new DsaGuest(mode));
    const list = at.page();
    at.poke(list.cpu + PAGE - 64, descriptor({ operation: Operation.NOOP }));
    t.like(at.run({ operation: Operation.BATCH, source: list.device + PAGE - 64, size: 2 }), {
      status: Status.HARDWARE,
      completed: 1,
      fault: BigInt(list.device + PAGE),
    });
  });
}

test('what may only be read is not written to', t => {
  for (const mode of ['legacy', 'second'] as const) {
    const at = owner(t)(new DsaGuest(mode));
    const [source, target] = [at.page(), at.page(1, Access.READ)];
    const { status, write } = at.run({ ...MOVE, source: source.device, destination: target.device, size: 8 });
    t.deepEqual([status, write], [Status.HARDWARE, true]);
    t.is(at.guest.iommu.handleFaults().length, 1);
  }
});

test('block on fault: each page is requested, and the copy goes on when it is there', t => {
  const asked: number[] = [];
  const hidden = new Map<number, Both>();
  const at: DsaGuest = owner(t)(
    new DsaGuest('shared', [{}], ({ hi, lo, pasid }) => {
      asked.push(hi * 2 ** 32 + (lo >>> 0));
      t.is(pasid, PASID);
      at.appear(hidden.get(asked.at(-1)!)!);
      return PageResponse.SUCCESS;
    }),
  );
  const [source, target, record] = [at.hidden(), at.hidden(), at.hidden()];
  for (const each of [source, target, record]) hidden.set(each.device, each);
  at.poke(source.cpu, new Uint8Array(PAGE).fill(0x5a));
  const flags = Flag.BLOCK_ON_FAULT;
  const { device: completion } = record;
  at.submit({ ...MOVE, flags, completion, source: source.device, destination: target.device, size: PAGE });
  for (const each of [source, target, record]) {
    t.is(at.driver.completion(record.cpu).status, 0);
    t.is(at.requests!.handle(), 1);
    t.is(asked.at(-1), each.device);
  }
  t.is(at.driver.completion(record.cpu).status, Status.SUCCESS);
  t.deepEqual(at.peek(target.cpu, PAGE), new Uint8Array(PAGE).fill(0x5a));
  t.is(asked.length, 3);
});

test('a page that is requested and refused: status 4, and where', t => {
  const at = owner(t)(new DsaGuest('shared', [{}], () => PageResponse.INVALID_REQUEST));
  const [source, target] = [at.page(), at.hidden()];
  at.submit({
    ...MOVE,
    flags: Flag.BLOCK_ON_FAULT,
    source: source.device,
    destination: target.device + 16,
    size: 64,
  });
  t.is(at.requests!.handle(), 1);
  t.like(at.completion, { status: Status.PAGE_REFUSED, write: true, fault: BigInt(target.device + 16) });
});

/** A guest whose first queue has a copy that waits for its target, with another one behind it. */
function waiting(t: ExecutionContext, engines = 1) {
  let answer = true;
  const at: DsaGuest = owner(t)(
    new DsaGuest(
      'shared',
      [{ size: 4 }, { size: 4 }],
      () => {
        if (answer) at.appear(target);
        return answer ? PageResponse.SUCCESS : PageResponse.INVALID_REQUEST;
      },
      engines,
    ),
  );
  const [source, target] = [at.page(), at.hidden()];
  at.poke(source.cpu, new Uint8Array(PAGE).fill(0x77));
  const flags = Flag.BLOCK_ON_FAULT;
  at.submit({ ...MOVE, flags, source: source.device, destination: target.device, size: PAGE });
  const record = (index: number): number => at.record.cpu + 32 * index;
  const noop = (index: number, queue: number, operation: number = Operation.NOOP): void =>
    at.driver.submit(queue, { operation, completion: at.record.device + 32 * index });
  return { at, target, record, noop, refuse: () => (answer = false) };
}

test('what waits holds its engine: others go on with what comes, a drain waits for all of its queue', t => {
  const { at, target, record, noop } = waiting(t, 3);
  noop(1, 0);
  noop(2, 1, Operation.DRAIN);
  noop(3, 0, Operation.DRAIN);
  const states = (): number[] => [0, 1, 2, 3].map(index => at.driver.completion(record(index)).status);
  t.deepEqual(states(), [0, 1, 1, 0]);
  at.requests!.handle();
  t.deepEqual(states(), [1, 1, 1, 1]);
  t.is(at.peek(target.cpu, 1)[0], 0x77);
});

test('a queue that is full takes no more, and SWERR says so', t => {
  const { at, record, noop } = waiting(t);
  for (let index = 1; index < 5; index++) noop(index, 0);
  t.is((at.driver.register(Reg.SWERR) >>> 8) & 0xff, Status.QUEUE_FULL);
  at.requests!.handle();
  t.deepEqual(
    [0, 1, 2, 3, 4].map(index => at.driver.completion(record(index)).status),
    [1, 1, 1, 1, 0],
  );
});

test('disabling waits for what was accepted; aborting and resetting do not', t => {
  const { at, record, target } = waiting(t);
  t.is(at.driver.command(Command.DISABLE_WQ, 1), undefined);
  t.is(at.driver.queueState(0), QueueState.BUSY);
  at.requests!.handle();
  t.is(at.driver.commandStatus(), 0);
  t.is(at.driver.queueState(0), QueueState.DISABLED);
  t.is(at.driver.completion(record(0)).status, Status.SUCCESS);
  t.is(at.peek(target.cpu, 1)[0], 0x77);
  for (const [command, operand] of [
    [Command.ABORT_ALL, 0],
    [Command.ABORT_WQ, 1],
    [Command.RESET_WQ, 1],
    [Command.ABORT_PASID, PASID],
    [Command.RESET_DEVICE, 0],
  ] as const) {
    const other = waiting(t);
    t.is(other.at.driver.command(Command.DRAIN_PASID, PASID + 1), 0, 'another PASID has nothing to wait for');
    t.is(other.at.driver.command(command, operand), 0);
    other.at.requests!.handle();
    t.is(other.at.driver.completion(other.record(0)).status, Status.NONE);
    t.is(other.at.peek(other.target.cpu, 1)[0], 0);
  }
});

test('a machine that is saved while a copy waits for its page, and what is queued behind it', t => {
  const { at, noop, target } = waiting(t);
  noop(1, 0);
  t.is(at.driver.command(Command.DRAIN_WQ, 1), undefined);
  const into = new StateWriter();
  at.vm.save(into);
  const result = (): unknown => [at.peek(target.cpu, PAGE), at.peek(at.record.cpu, 64), at.driver.commandStatus()];
  const before = result();
  at.requests!.handle();
  const after = result();
  t.like(after, { 0: new Uint8Array(PAGE).fill(0x77), 2: 0 });
  // Memory is not in the state.
  at.poke(target.cpu, new Uint8Array(PAGE));
  at.poke(at.record.cpu, new Uint8Array(PAGE));
  at.vm.load(new StateReader(into.section));
  t.deepEqual(result(), before);
  // Nor is the guest's driver: the answer comes without it.
  at.vm.functions('dsa0')[0]!.ats!.pageResponse(PASID, 0, PageResponse.SUCCESS);
  t.deepEqual(result(), after);
});

test('a shared queue takes the PASID of each descriptor', t => {
  const at = owner(t)(new DsaGuest('pasid', [{ dedicated: 0, threshold: 8, pasid: 0 }]));
  const [source, target] = [at.page(), at.page()];
  at.poke(source.cpu, new Uint8Array(PAGE).fill(0x31));
  const move = { ...MOVE, source: source.device, destination: target.device, size: PAGE };
  t.is(at.run({ ...move, pasid: PASID }).status, Status.SUCCESS);
  t.deepEqual(at.peek(target.cpu, PAGE), new Uint8Array(PAGE).fill(0x31));
  at.submit({ ...move, pasid: PASID + 1 });
  t.is(at.completion.status, Status.NONE, "its record is in nobody's memory");
  t.true(at.guest.iommu.handleFaults().length > 0);
  t.is((at.driver.register(Reg.SWERR) >>> 8) & 0xff, Status.COMPLETION_FAULT);
});
