// NVMe 1.4, 4.1 and 5.3 to 5.6: queues.
import { Command, Config } from '@remora/pci';
import test from 'ava';
import { BAR, code, RAM_BYTES, rig, TRAP } from '../rig.test.helper.js';
import { AdminOpcode, Cns, CommandLayout, DNR, IoOpcode, LogPage, Reg, Status } from '../spec/index.js';
import { transfer } from '../driver/index.js';

const EVENT = AdminOpcode.ASYNC_EVENT_REQUEST;
const EVENT_REQUEST = { opcode: EVENT };
const FLUSH = { opcode: IoOpcode.FLUSH, nsid: 1 };

test('Create I/O Completion Queue: what it refuses, and with which status', t => {
  const { driver, allocate } = rig({ mqes: 63, max_ioqpairs: 4 });
  const { device: prp1 } = allocate(1);
  const create = (cdw10: number, cdw11: number, at = prp1): number => {
    const { status } = driver.run(0, { opcode: AdminOpcode.CREATE_IO_CQ, prp1: at, cdw10, cdw11 });
    if (status !== 0) t.true((status & DNR) !== 0);
    return status & 0x7ff;
  };
  const size = 7 << 16;
  t.is(create(size, 1), Status.INVALID_QUEUE_IDENTIFIER, '0');
  t.is(create(size | 1, 1), Status.INVALID_QUEUE_IDENTIFIER, 'it exists');
  t.is(create(size | 5, 1), Status.INVALID_QUEUE_IDENTIFIER, 'more than there can be');
  t.is(create(2, 1), Status.INVALID_QUEUE_SIZE, 'one entry');
  t.is(create((64 << 16) | 2, 1), Status.INVALID_QUEUE_SIZE, 'more than CAP.MQES');
  t.is(create(size | 2, 1, prp1 + 0x40), Status.PRP_OFFSET_INVALID);
  t.is(create(size | 2, 0), Status.INVALID_FIELD, 'not contiguous');
  t.is(create(size | 2, 3 | (1 << 16)), Status.INVALID_INTERRUPT_VECTOR, 'no messages are enabled');
  t.is(create(size | 2, 3), 0);
  t.is(create((63 << 16) | 3, 1), 0, 'the largest');
  driver.setRegister(Reg.CC, (driver.register(Reg.CC) & ~0xf0_0000) | (5 << 20));
  t.is(create(size | 4, 1), Status.INVALID_QUEUE_SIZE, 'entries of 32 bytes');
});

test('Create I/O Submission Queue: likewise; its completion queue must exist, and be no admin queue', t => {
  const { driver, allocate } = rig({ mqes: 63, max_ioqpairs: 4 });
  const { device: prp1 } = allocate(1);
  const create = (cdw10: number, cdw11: number, at = prp1): number =>
    code(driver.run(0, { opcode: AdminOpcode.CREATE_IO_SQ, prp1: at, cdw10, cdw11 }));
  const size = 7 << 16;
  const to1 = (1 << 16) | 1;
  t.is(create(size | 2, 1), Status.COMPLETION_QUEUE_INVALID);
  t.is(create(size | 2, (2 << 16) | 1), Status.COMPLETION_QUEUE_INVALID);
  t.is(create(size, to1), Status.INVALID_QUEUE_IDENTIFIER);
  t.is(create(size | 1, to1), Status.INVALID_QUEUE_IDENTIFIER);
  t.is(create(size | 5, to1), Status.INVALID_QUEUE_IDENTIFIER);
  t.is(create(2, to1), Status.INVALID_QUEUE_SIZE);
  t.is(create((64 << 16) | 2, to1), Status.INVALID_QUEUE_SIZE);
  t.is(create(size | 2, to1, prp1 + 8), Status.PRP_OFFSET_INVALID);
  t.is(create(size | 2, 1 << 16), Status.INVALID_FIELD);
  t.is(create(size | 2, to1), 0, 'two queues with the same completions');
});

test('queues are deleted in order: a completion queue not before its submission queues', t => {
  const { driver } = rig();
  const del = (opcode: number, id: number): number => code(driver.run(0, { opcode, cdw10: id }));
  t.is(del(AdminOpcode.DELETE_IO_CQ, 1), Status.INVALID_QUEUE_DELETION);
  t.is(del(AdminOpcode.DELETE_IO_SQ, 0), Status.INVALID_QUEUE_IDENTIFIER);
  t.is(del(AdminOpcode.DELETE_IO_SQ, 2), Status.INVALID_QUEUE_IDENTIFIER);
  t.is(del(AdminOpcode.DELETE_IO_CQ, 0), Status.INVALID_QUEUE_IDENTIFIER);
  t.is(del(AdminOpcode.DELETE_IO_SQ, 1), 0);
  t.is(del(AdminOpcode.DELETE_IO_SQ, 1), Status.INVALID_QUEUE_IDENTIFIER);
  t.is(del(AdminOpcode.DELETE_IO_CQ, 1), 0);
  driver.createQueues(1);
  t.is(driver.run(1, FLUSH).status, 0);
});

test('a queue goes around many times: the phase tag turns, SQHD and SQID tell where the controller is', t => {
  const { driver } = rig();
  driver.createQueues(2, { entries: 5 });
  for (let count = 1; count <= 43; count++) {
    const { sqhd, sqid } = driver.expect(2, FLUSH);
    t.deepEqual([sqhd, sqid], [count % 5, 2]);
  }
});

test('several commands with one doorbell complete in order; a full submission queue has one entry less than it holds', t => {
  const { driver } = rig();
  driver.createQueues(2, { entries: 8 });
  for (let round = 0; round < 3; round++) {
    const cids = driver.submit(2, ...Array.from({ length: 7 }, () => FLUSH));
    t.deepEqual(
      driver.poll(2).map(({ cid }) => cid),
      cids,
    );
  }
});

test('a full completion queue holds commands back, which go on when the host takes completions', t => {
  const { driver, allocate } = rig();
  const { device: prp1 } = allocate(1);
  driver.createQueues(2, { entries: 4 });
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_SQ, prp1, cdw10: 3 | (63 << 16), cdw11: 1 | (2 << 16) });
  const entry = new Uint8Array(CommandLayout.encode(FLUSH).buffer);
  for (let cid = 0; cid < 10; cid++)
    driver.poke(prp1 + 64 * cid, Uint8Array.of(entry[0]!, 0, cid, 0, ...entry.subarray(4)));
  driver.setRegister(Reg.DOORBELLS + 8 * 3, 10);
  const seen: number[] = [];
  for (let round = 0; round < 4; round++) {
    const completions = driver.poll(2);
    t.is(completions.length, round < 3 ? 3 : 1);
    seen.push(...completions.map(({ cid }) => cid));
  }
  t.deepEqual(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  t.deepEqual(driver.poll(2), []);
});

test('doorbells of no queue, and values that cannot be, are told as events and do nothing else', t => {
  const { driver } = rig();
  const doorbell = (offset: number, value: number): void => driver.setRegister(Reg.DOORBELLS + offset, value);
  const wrong = (what: string, information: number, queue: number, offset: number, value: number): void => {
    const [cid] = driver.submit(0, { opcode: EVENT });
    doorbell(offset, value);
    const [event, ...more] = driver.poll(0);
    t.deepEqual(
      [event?.cid, event?.status, event?.result, more.length],
      [cid, 0, 0x01_0000 | (information << 8), 0],
      what,
    );
    const log = new DataView(driver.logPage(LogPage.ERROR, 64).buffer);
    t.deepEqual([log.getUint16(8, true), log.getUint16(10, true)], [queue, 0xffff], what);
  };
  wrong('submission queue 2', 0, 2, 16, 1);
  wrong('completion queue 2', 0, 2, 20, 1);
  wrong('a tail beyond the queue', 1, 1, 8, 64);
  wrong('a head beyond the queue', 1, 1, 12, 64);
  wrong('a head beyond the tail', 1, 1, 12, 1);
  const before = driver.queue(1).tail;
  driver.expect(1, FLUSH);
  t.is(driver.queue(1).tail, before + 1, 'the queue works as before');
  wrong('a completion taken twice', 1, 1, 12, 2);
  doorbell(8 * 65, 1);
  doorbell(0x3000 - 4, 1);
  t.is(driver.register(Reg.CSTS), 1);
});

test('a tail that would overtake the head is refused: commands wait for room in the completion queue', t => {
  const { driver } = rig();
  driver.createQueues(2, { entries: 4 });
  driver.submit(2, FLUSH, FLUSH, FLUSH);
  driver.submit(2, FLUSH, FLUSH);
  driver.submit(0, { opcode: EVENT });
  // Two are waiting, from entry 3 on: there is room for one more.
  driver.setRegister(Reg.DOORBELLS + 16, 3);
  const [event] = driver.poll(0);
  t.is(event?.result, 0x01_0100);
  t.is(driver.poll(2).length, 3);
  t.is(driver.poll(2).length, 2);
});

test('queue memory that does not answer is a fatal status; only a controller reset helps', t => {
  const { driver, config } = rig();
  const beyond = RAM_BYTES;
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_CQ, prp1: beyond, cdw10: 2 | (7 << 16), cdw11: 1 });
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_SQ, prp1: beyond, cdw10: 2 | (7 << 16), cdw11: 1 | (1 << 16) });
  driver.setRegister(Reg.DOORBELLS + 16, 1);
  t.deepEqual([driver.status.cfs, driver.status.rdy], [1, 1]);
  driver.submit(1, FLUSH);
  t.deepEqual(driver.poll(1), [], 'nothing goes on');
  driver.enable();
  t.is(driver.status.cfs, 0);
  driver.createQueues(1);
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_CQ, prp1: beyond, cdw10: 2 | (7 << 16), cdw11: 1 });
  const { device: prp1 } = { device: 0x8000 };
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_SQ, prp1, cdw10: 2 | (7 << 16), cdw11: 1 | (2 << 16) });
  driver.setRegister(Reg.DOORBELLS + 16, 1);
  t.is(driver.status.cfs, 1, 'a completion that cannot be written');
  driver.enable();
  config.write(Config.COMMAND, Command.MEMORY, 2);
  driver.submit(0, { opcode: AdminOpcode.IDENTIFY, cdw10: Cns.CONTROLLER });
  t.is(driver.status.cfs, 1, 'without bus mastering nothing is fetched');
  config.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
  driver.enable();
  t.is(driver.identify().length, 4096);
});

test('queues and data at the controller’s own registers: refused, not entered again', t => {
  const { driver, allocate } = rig();
  const own = BAR + Reg.DOORBELLS;
  const { device: prp1 } = allocate(1);
  driver.poke(prp1, new Uint8Array(4096).fill(1));
  t.is(code(driver.run(1, { ...transfer(IoOpcode.WRITE, 0, 8), prp1 })), 0);
  t.is(code(driver.run(1, { ...transfer(IoOpcode.READ, 0, 8), prp1: own })), Status.DATA_TRANSFER_ERROR);
  t.is(code(driver.run(1, { ...transfer(IoOpcode.WRITE, 0, 8), prp1: own })), Status.DATA_TRANSFER_ERROR);
  t.is(driver.status.cfs, 0);
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_CQ, prp1: own, cdw10: 2 | (7 << 16), cdw11: 1 });
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_SQ, prp1, cdw10: 2 | (7 << 16), cdw11: 1 | (2 << 16) });
  driver.setRegister(Reg.DOORBELLS + 16, 1);
  t.is(driver.status.cfs, 1);
});

test('a reset of the function from within a transfer of its own: what is under way is dropped', t => {
  const { driver, device, trap, map } = rig();
  const reset = (): void => device.fn.reset();
  const again = (): void => {
    trap.access = () => {};
    map();
    t.is(driver.register(Reg.CSTS), 0);
    driver.enable();
    driver.createQueues(1);
    t.is(driver.run(1, FLUSH).status, 0);
  };
  for (const opcode of [IoOpcode.READ, IoOpcode.WRITE]) {
    trap.access = reset;
    driver.submit(1, { ...transfer(opcode, 0, 8), prp1: TRAP }, FLUSH);
    t.deepEqual(driver.poll(1), []);
    again();
  }
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_CQ, prp1: TRAP, cdw10: 2 | (7 << 16), cdw11: 1 });
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_SQ, prp1: 0x8000, cdw10: 2 | (7 << 16), cdw11: 1 | (2 << 16) });
  trap.access = reset;
  driver.setRegister(Reg.DOORBELLS + 16, 3);
  again();
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_CQ, prp1: 0x9000, cdw10: 2 | (7 << 16), cdw11: 1 });
  driver.expect(0, { opcode: AdminOpcode.CREATE_IO_SQ, prp1: TRAP, cdw10: 2 | (7 << 16), cdw11: 1 | (2 << 16) });
  trap.access = reset;
  driver.setRegister(Reg.DOORBELLS + 16, 3);
  again();
  // Where the completion of an event goes.
  driver.setRegister(Reg.CC, 0);
  driver.setRegister(Reg.ACQ, TRAP);
  driver.setRegister(Reg.CC, 0x0046_0001);
  driver.poke(driver.register(Reg.ASQ), new Uint8Array(CommandLayout.encode(EVENT_REQUEST).buffer));
  driver.setRegister(Reg.DOORBELLS, 1);
  trap.access = reset;
  driver.setRegister(Reg.DOORBELLS + 8 * 9, 1);
  again();
});

test('fused commands and SGLs are refused, in both kinds of queues', t => {
  const { driver } = rig();
  for (const id of [0, 1]) {
    const opcode = id === 0 ? AdminOpcode.IDENTIFY : IoOpcode.FLUSH;
    for (const flags of [{ fuse: 1 }, { fuse: 2 }, { psdt: 1 }, { psdt: 2 }])
      t.is(code(driver.run(id, { opcode, nsid: 1, cdw10: 1, ...flags })), Status.INVALID_FIELD);
    t.is(code(driver.run(id, { opcode: 0x7f, nsid: 1 })), Status.INVALID_OPCODE);
  }
});
