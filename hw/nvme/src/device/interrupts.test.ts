// NVMe 1.4, 7.5: interrupts.
import test from 'ava';
import { code, rig } from '../rig.test.helper.js';
import { AdminOpcode, IoOpcode, Reg, Status } from '../spec/index.js';

const FLUSH = { opcode: IoOpcode.FLUSH, nsid: 1 };
const IDENTIFY = { opcode: AdminOpcode.IDENTIFY, prp1: 0x8000, cdw10: 1 };

test('7.5.2, MSI-X: a message of the queue’s vector for what a doorbell set off; none without interrupts', t => {
  const { driver, enableMsix, sent } = rig();
  enableMsix(65);
  driver.createQueues(2, { vector: 5 });
  driver.createQueues(3, { vector: 64 });
  sent();
  driver.submit(0, IDENTIFY);
  t.deepEqual(sent(), [0]);
  driver.submit(2, FLUSH, FLUSH, FLUSH);
  t.deepEqual(sent(), [5]);
  driver.submit(3, FLUSH);
  t.deepEqual(sent(), [64]);
  driver.submit(1, FLUSH);
  t.deepEqual(sent(), []);
  for (const id of [0, 1, 2, 3]) driver.poll(id);
  t.deepEqual(sent(), [], 'taking completions sends nothing');
  t.throws(() => driver.createQueues(4, { vector: 65 }), { message: /status 0x6108/ });
});

test('MSI-X: vectors that are masked wait in the pending bits; INTMS means nothing', t => {
  const { driver, enableMsix, sent, addressSpace } = rig();
  enableMsix(4);
  driver.createQueues(2, { vector: 3 });
  sent();
  driver.setRegister(Reg.INTMS, 0xffff_ffff);
  driver.submit(2, FLUSH);
  t.deepEqual(sent(), [3]);
  addressSpace.store(0, 0xe100_0000 + 3 * 16 + 12, Int32Array.of(1), 0, 1);
  driver.submit(2, FLUSH);
  t.deepEqual(sent(), []);
  addressSpace.store(0, 0xe100_0000 + 3 * 16 + 12, Int32Array.of(0), 0, 1);
  t.deepEqual(sent(), [3]);
});

test('7.5.1, MSI: one vector for all queues, or as many as software granted', t => {
  const { driver, enableMsi, sent } = rig();
  enableMsi(0);
  t.throws(() => driver.createQueues(2, { vector: 1 }), { message: /status 0x6108/ });
  driver.createQueues(2, { vector: 0 });
  sent();
  driver.submit(2, FLUSH);
  t.deepEqual(sent(), [0]);
  enableMsi(3);
  driver.createQueues(3, { vector: 7 });
  sent();
  driver.submit(3, FLUSH, FLUSH);
  t.deepEqual(sent(), [7]);
  t.throws(() => driver.createQueues(4, { vector: 8 }), { message: /status 0x6108/ });
});

test('MSI offers as many vectors as there are queue pairs, 32 at most', t => {
  const capable = (max_ioqpairs: number): number => {
    const { device, config } = rig({ max_ioqpairs }, { start: false });
    return (config.get16(device.fn.capabilities.find(0x05)! + 2) >> 1) & 7;
  };
  t.deepEqual([1, 2, 7, 8, 31, 64].map(capable), [1, 2, 3, 4, 5, 5]);
});

test('7.5.1, MSI: INTMS holds messages back, INTMC sends what waits; both read as the mask', t => {
  const { driver, enableMsi, sent } = rig();
  enableMsi(2);
  driver.createQueues(2, { vector: 1 });
  driver.createQueues(3, { vector: 2 });
  sent();
  driver.setRegister(Reg.INTMS, 0b0110);
  driver.setRegister(Reg.INTMS, 0b1000);
  t.deepEqual([driver.register(Reg.INTMS), driver.register(Reg.INTMC)], [0b1110, 0b1110]);
  driver.submit(2, FLUSH);
  driver.submit(3, FLUSH);
  t.deepEqual(sent(), []);
  driver.poll(3);
  driver.setRegister(Reg.INTMC, 0b0110);
  t.deepEqual(sent(), [1], 'the other queue is empty');
  t.is(driver.register(Reg.INTMS), 0b1000);
  driver.setRegister(Reg.INTMC, 0b0110);
  t.deepEqual(sent(), [], 'nothing was masked');
});

test('7.5.1, MSI: a host that takes some completions hears of the others', t => {
  const { driver, enableMsi, sent } = rig();
  enableMsi(0);
  driver.createQueues(2, { vector: 0 });
  sent();
  driver.submit(2, FLUSH, FLUSH);
  t.deepEqual(sent(), [0]);
  driver.setRegister(Reg.DOORBELLS + 20, 1);
  t.deepEqual(sent(), [0]);
  driver.setRegister(Reg.DOORBELLS + 20, 2);
  t.deepEqual(sent(), []);
});

test('a wrong doorbell interrupts, if the host awaits an event', t => {
  const { driver, enableMsi, sent } = rig();
  enableMsi(0);
  driver.setRegister(Reg.DOORBELLS + 8 * 9, 1);
  t.deepEqual(sent(), []);
  driver.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST });
  t.deepEqual(sent(), [0]);
});

test('7.5.1, the pin: asserted while completions wait that are not masked', t => {
  const { driver, turns, config, enableMsi, sent } = rig();
  turns.length = 0;
  driver.createQueues(2, { vector: 0 });
  t.deepEqual(turns, [true, false, true, false], 'two commands');
  driver.submit(2, FLUSH, FLUSH);
  driver.setRegister(Reg.DOORBELLS + 20, 1);
  t.is(turns.at(-1), true, 'one is left');
  driver.setRegister(Reg.INTMS, 1);
  t.is(turns.at(-1), false);
  t.is(config.get16(6) & 8, 0);
  driver.setRegister(Reg.INTMC, 1);
  t.is(turns.at(-1), true);
  t.is(config.get16(6) & 8, 8);
  driver.setRegister(Reg.DOORBELLS + 20, 2);
  t.is(turns.at(-1), false);
  driver.submit(1, FLUSH);
  t.is(turns.at(-1), false, 'a queue without interrupts');
  driver.submit(2, FLUSH);
  t.is(turns.at(-1), true);
  driver.setRegister(Reg.CC, 0);
  t.is(turns.at(-1), false, 'a reset');
  t.deepEqual(sent(), []);
  turns.length = 0;
  enableMsi(0);
  driver.enable();
  t.is(driver.identify().length, 4096);
  t.deepEqual(turns, [], 'with messages there is no pin');
});

test('a driver that changes to messages while the pin is asserted gets rid of it', t => {
  const { driver, turns, enableMsi, sent } = rig();
  driver.createQueues(2, { vector: 0 });
  driver.submit(2, FLUSH);
  t.is(turns.at(-1), true);
  enableMsi(0);
  driver.submit(2, FLUSH);
  t.is(turns.at(-1), false);
  t.deepEqual(sent(), [0]);
});

test('without messages only vector 0 exists', t => {
  const { driver, sent } = rig({ msix: false });
  driver.createQueues(2, { vector: 0 });
  t.throws(() => driver.createQueues(3, { vector: 1 }));
  driver.expect(2, FLUSH);
  t.deepEqual(sent(), []);
  t.is(code(driver.run(2, { opcode: 0x7f, nsid: 1 })), Status.INVALID_OPCODE);
});
