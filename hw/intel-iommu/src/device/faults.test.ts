import { hiOf, loOf } from '@remora/bits';
import { Access } from '@remora/core';
import test from 'ava';
import { FaultRecord, GlobalCommand, PasidEntry, Pgtt, Reg } from '../spec/index.js';
import { type Bench, DID, legacyBench, RID, scalableBench } from './bench.test.helper.js';

const FRCD = 0x220;
const IM = 0x8000_0000;
const IP = 0x4000_0000;
const PFO = 1;
const PPF = 2;
const IQE = 0x10;
const MESSAGE = { address: 0xfee0_1000, data: 0x21 };

function withMessage(bench: Bench): Bench {
  bench.write32(Reg.FEDATA, MESSAGE.data);
  bench.write32(Reg.FEADDR, MESSAGE.address);
  return bench;
}

const clearRecord = (bench: Bench, index = 0): void => bench.write32(FRCD + index * 16 + 12, 0x8000_0000);

test('a fault fills the record, sets PPF and FRI, and sends the message', t => {
  const { bench } = legacyBench();
  withMessage(bench).write32(Reg.FECTL, 0);
  t.is(bench.fault(0x1234_5678, Access.READ), 6);
  t.is(bench.read64(FRCD), 0x1234_5000n);
  t.is(bench.read64(FRCD + 8), 0xc000_0006_0000_0113n);
  t.is(bench.read32(Reg.FSTS), PPF);
  t.deepEqual(bench.messages, [MESSAGE]);
  t.is(bench.read32(Reg.FECTL), 0);
});

test('the record of a write has T1 clear; of an atomic both type bits', t => {
  const { bench } = legacyBench({ 'fault-records': 2 });
  bench.fault(0, Access.WRITE);
  bench.fault(0, Access.READ_WRITE);
  t.is(bench.read64(FRCD + 8), 0x8000_0005_0000_0113n);
  t.is(bench.read64(FRCD + 24), 0xc000_0005_1000_0113n);
});

test('PASID, execute and privilege are recorded for requests with a PASID only', t => {
  const { bench } = scalableBench(undefined, {}, { paside: 1 });
  bench.fault(0x1000, Access.READ | Access.EXECUTE | Access.PRIVILEGED, 0x23);
  const high = bench.read64(FRCD + 8);
  const record = FaultRecord.decode(Int32Array.of(0, 0, loOf(high), hiOf(high)));
  t.like(record, { pp: 1, pv: 0x23, exe: 1, priv: 1, fr: 0x59, t1: 1, f: 1, sid: RID });
  clearRecord(bench);
  bench.fault(0x1000, Access.READ | Access.EXECUTE | Access.PRIVILEGED);
  t.is(bench.read64(FRCD + 8), 0xc000_0079_0000_0113n);
});

test('F is write-1-to-clear; the last one cleared takes PPF away', t => {
  const { bench } = legacyBench({ 'fault-records': 2 });
  bench.fault(0x1000);
  bench.fault(0x2000);
  bench.write32(FRCD + 12, 0);
  t.is(bench.read32(Reg.FSTS), PPF, 'writing 0 clears nothing');
  clearRecord(bench, 0);
  t.is(bench.read32(Reg.FSTS), PPF);
  clearRecord(bench, 1);
  t.is(bench.read32(Reg.FSTS), 0);
  t.is(bench.read32(FRCD + 12), 0x4000_0006, 'the rest of the record stays');
});

test('records are a ring; FRI names the first pending one; a full ring overflows', t => {
  const { bench } = legacyBench({ 'fault-records': 2 });
  withMessage(bench).write32(Reg.FECTL, 0);
  for (const page of [1, 2, 3]) bench.fault(page * 4096);
  t.deepEqual([bench.read64(FRCD), bench.read64(FRCD + 16)], [0x1000n, 0x2000n]);
  t.is(bench.read32(Reg.FSTS), PFO | PPF);
  t.is(bench.messages.length, 1, 'one event for all');

  clearRecord(bench, 0);
  bench.fault(0x4000);
  t.is(bench.read64(FRCD), 0x1000n, 'while PFO is set nothing is recorded');
  bench.write32(Reg.FSTS, PFO);
  clearRecord(bench, 1);
  t.is(bench.read32(Reg.FSTS), 0);
  bench.fault(0x5000);
  bench.fault(0x6000);
  t.deepEqual([bench.read64(FRCD), bench.read64(FRCD + 16)], [0x5000n, 0x6000n]);
  t.is(bench.read32(Reg.FSTS), PPF);
  clearRecord(bench, 0);
  clearRecord(bench, 1);
  bench.fault(0x7000);
  clearRecord(bench, 0);
  bench.fault(0x8000);
  t.is(bench.read32(Reg.FSTS), PPF | (1 << 8), 'record 1 is the first pending one');
});

test('a change of TE does not move the place of the next record: software that starts at FRI finds all', t => {
  const { bench } = legacyBench({ 'fault-records': 3 });
  bench.fault(0x1000);
  clearRecord(bench, 0);
  bench.fault(0x2000);
  t.is(bench.read32(Reg.FSTS), PPF | (1 << 8));
  bench.write32(Reg.GCMD, 0);
  bench.command(GlobalCommand.TE);
  bench.fault(0x3000);
  t.deepEqual([bench.read64(FRCD + 16), bench.read64(FRCD + 32)], [0x2000n, 0x3000n]);
  t.is(bench.read64(FRCD + 8) >> 63n, 0n, 'the record before FRI stays clear');
});

test('while masked an event stays pending, and goes out once when unmasked', t => {
  const { bench } = legacyBench();
  withMessage(bench);
  bench.fault(0x1000);
  t.deepEqual(bench.messages, []);
  t.is(bench.read32(Reg.FECTL), IM + IP);
  bench.write32(Reg.FECTL, 0);
  t.deepEqual(bench.messages, [MESSAGE]);
  t.is(bench.read32(Reg.FECTL), 0);
  bench.write32(Reg.FECTL, 0);
  t.is(bench.messages.length, 1);
});

test('software cannot set or clear IP; serviced conditions clear it', t => {
  const { bench } = legacyBench();
  bench.write32(Reg.FECTL, IM + IP);
  t.is(bench.read32(Reg.FECTL), IM);
  bench.fault(0x1000);
  bench.write32(Reg.FECTL, IM);
  t.is(bench.read32(Reg.FECTL), IM + IP);
  clearRecord(bench);
  t.is(bench.read32(Reg.FECTL), IM);
  bench.write32(Reg.FECTL, 0);
  t.deepEqual(bench.messages, []);
});

test('no event while another condition is pending: a queue error after a fault, a fault after a queue error', t => {
  const fault = legacyBench().bench;
  withMessage(fault).write32(Reg.FECTL, 0);
  fault.enableQueue(false);
  fault.fault(0x1000);
  fault.submitWords(new Int32Array(8));
  t.is(fault.read32(Reg.FSTS), PPF | IQE);
  t.is(fault.messages.length, 1);

  const error = legacyBench().bench;
  withMessage(error).write32(Reg.FECTL, 0);
  error.enableQueue(false);
  error.submitWords(new Int32Array(8));
  t.is(error.messages.length, 1);
  error.fault(0x1000);
  t.is(error.read32(Reg.FSTS), PPF | IQE);
  t.is(error.messages.length, 1);
  error.recover();
  clearRecord(error);
  error.fault(0x1000);
  t.is(error.messages.length, 2);
});

test('FSTS: only PFO, IQE, ICE and ITE are write-1-to-clear', t => {
  const { bench } = legacyBench();
  bench.unit.registers.set(Reg.FSTS, 0xff73);
  bench.write32(Reg.FSTS, 0);
  t.is(bench.read32(Reg.FSTS), 0xff73);
  bench.write32(Reg.FSTS, 0xffff_ffff);
  t.is(bench.read32(Reg.FSTS), 0xff02);
});

test('the message goes to the address that the registers hold at send time, upper half with EIM', t => {
  const { bench } = legacyBench({ intremap: true, eim: true });
  bench.fault(0x1000);
  withMessage(bench);
  bench.write32(Reg.FEUADDR, 0x100);
  bench.write32(Reg.FECTL, 0);
  t.deepEqual(bench.messages, [{ address: 0x100_fee0_1000, data: 0x21 }]);
});

test('FPD: in the context entry it suppresses qualified faults only', t => {
  const { bench, rootEntry } = legacyBench({}, { fpd: 1 });
  t.is(bench.fault(0x1000), 6);
  t.deepEqual([bench.offered, bench.suppressed], [[], [6]]);
  t.is(bench.read32(Reg.FSTS), 0);
  bench.flip(rootEntry, 0);
  bench.command(GlobalCommand.SRTP);
  t.is(bench.fault(0x1000), 1);
  t.deepEqual(bench.offered, [1]);
});

test('FPD cumulates: context, directory and PASID entry, also entries that are not present', t => {
  const present = { pgtt: Pgtt.SECOND_STAGE, aw: 2, did: DID };
  const inContext = scalableBench(undefined, {}, { fpd: 1 });
  t.is(inContext.bench.fault(0x1000), 0x79);
  const inDirectory = scalableBench();
  inDirectory.bench.flip(inDirectory.directory * 4096, 1);
  t.is(inDirectory.bench.fault(0x1000), 0x79);
  const absentDirectory = scalableBench();
  absentDirectory.bench.put64(absentDirectory.directory * 4096, 2n);
  t.is(absentDirectory.bench.fault(0x1000), 0x51);
  const inEntry = scalableBench(undefined, { fpd: 1 });
  t.is(inEntry.bench.fault(0x1000), 0x79);
  const absentEntry = scalableBench();
  absentEntry.bench.put(absentEntry.entry, PasidEntry.encode({ ...present, fpd: 1 }));
  t.is(absentEntry.bench.fault(0x1000), 0x59);
  const all = [inContext, inDirectory, absentDirectory, inEntry, absentEntry];
  t.deepEqual(
    all.map(({ bench }) => [bench.offered.length, ...bench.suppressed]),
    [
      [0, 0x79],
      [0, 0x79],
      [0, 0x51],
      [0, 0x79],
      [0, 0x59],
    ],
  );
});

test('FPD: a lookup structure that cannot be read is reported all the same', t => {
  const { bench, directory } = scalableBench(undefined, {}, { fpd: 1 });
  bench.put64(directory * 4096, BigInt(0x1_0000_0000) | 3n);
  t.is(bench.fault(0x1000), 0x58);
  t.deepEqual(bench.offered, [0x58]);
});

test('compat=qemu-10.2: one source has one pending record, others overflow; PV is 0xFFFF in a legacy walk', t => {
  const { bench } = legacyBench({ compat: 'qemu-10.2' });
  bench.fault(0x1000);
  bench.fault(0x2000);
  t.is(bench.read64(FRCD), 0x1000n);
  t.is(bench.read64(FRCD + 8), 0xc0ff_ff06_0000_0113n);
  t.is(bench.read32(Reg.FSTS), PPF, 'the second fault of the same source is dropped');
  bench.fault(0x3000, Access.READ, -1, RID + 1);
  t.is(bench.read32(Reg.FSTS), PPF | PFO);
});
