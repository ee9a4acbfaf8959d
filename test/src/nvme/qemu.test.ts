/** The same registers and commands to QEMU's controller and to ours: the same answers, but for what is listed. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AdminOpcode as Admin,
  Cns,
  FeatureId,
  IdController,
  IdNamespace,
  IoOpcode as Io,
  LogPage,
  Reg,
} from '@hw/nvme';
import type { CommandValues } from '@hw/nvme/driver';
import test, { type ExecutionContext } from 'ava';
import { findQemu } from '../qmp/real-qemu.js';
import { PROGRAM } from '../qtest/program-under-test.js';
import { DATA, type Outcome, QtestNvme } from './qtest-process.js';

const qemu = findQemu();
const ifPresent = 'program' in qemu ? test.serial : test.serial.skip;
if ('missing' in qemu) test('without a QEMU there is nothing to compare with', t => t.pass(qemu.missing));

const OPTIONS = 'serial=same,addr=04.0';

async function both(t: ExecutionContext): Promise<readonly [theirs: QtestNvme, ours: QtestNvme]> {
  if ('missing' in qemu) throw new Error(qemu.missing);
  const folder = mkdtempSync(join(tmpdir(), 'remora-nvme-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const disk = join(folder, 'disk');
  writeFileSync(disk, '');
  truncateSync(disk, 16 * 2 ** 20);
  const drive = ['-drive', `file=${disk},format=raw,if=none,id=disk`, '-device', `nvme,drive=disk,${OPTIONS}`];
  const theirs = await QtestNvme.start([qemu.program], drive);
  t.teardown(() => theirs.stop());
  const ours = await QtestNvme.start([process.execPath, PROGRAM], ['-device', `nvme,size=16M,${OPTIONS}`]);
  t.teardown(() => ours.stop());
  return [theirs, ours];
}

type Step = readonly [name: string, queue: 0 | 1, command: CommandValues];

const shown = ({ status, result }: Outcome): string => `${status.toString(16)}/${result.toString(16)}`;

/** Steps with other answers: `theirs` to `ours`. */
async function differences(controllers: readonly QtestNvme[], steps: readonly Step[]): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [name, queue, command] of steps) {
    const [theirs, ours] = await Promise.all(controllers.map(each => each.run(queue, command)));
    if (shown(theirs!) !== shown(ours!)) found[name] = `${shown(theirs!)} to ${shown(ours!)}`;
  }
  return found;
}

/** Fields and commands in which QEMU differs, and why that is so. */
type Reasons = readonly (readonly [differences: RegExp, reason: string])[];

/** Differences without a reason, and reasons without a difference. */
function unexplained(found: Readonly<Record<string, string>>, reasons: Reasons): string[] {
  const names = Object.keys(found);
  return [
    ...names.filter(name => !reasons.some(([each]) => each.test(name))).map(name => `${name}: ${found[name]}`),
    ...reasons.filter(([each]) => !names.some(name => each.test(name))).map(([each]) => `not seen: ${String(each)}`),
  ];
}

const CONTROLLER_REASONS: Reasons = [
  [/^(MN|FR|SUBNQN)$/, 'who made it'],
  [/^IEEE$/, 'CMIC, the byte behind it: QEMU has every controller in a subsystem of several'],
  [/^CTRATT$/, 'QEMU has endurance groups, and no host identifier'],
  [/^ELPE$/, "QEMU's error log has one entry, which is always zero"],
  [/^NN$/, 'QEMU has room for 256 namespaces'],
  [/^(OACS|ONCS)$/, 'QEMU has namespace management, doorbell buffers, directives and Copy'],
];
const NAMESPACE_REASONS: Reasons = [
  [/^(NLBAF|FLBAS)$/, 'QEMU has formats with metadata, and protection information'],
  [/^NSFEAT$/, 'QEMU reports preferred sizes and errors of deallocated blocks'],
  [/^DLFEAT$/, 'Write Zeroes deallocates here, too'],
  [/^NVMCAP$/, 'QEMU leaves it zero'],
];
const ADMIN_REASONS: Reasons = [
  [/^identify 1[0-3] of/, 'namespace management, which is not offered here'],
  [/^identify 1 of 0 .*fuse/, 'QEMU allows another try'],
  [/^get [1289] 3 /, 'QEMU lets the host change fewer features'],
  [/^set 2 1 0$/, 'so its power state is no wrong one, but not changeable'],
  [/^get 6 [12] /, "QEMU's default of the write cache is not what the controller has after a reset"],
  [/^get 81 /, 'QEMU has no host identifier'],
  [/^log (0|128) /, 'QEMU: Invalid Field; NVMe 1.4, 5.14: Invalid Log Page'],
  [/^delete completion queue [02]$/, 'QEMU: Completion Queue Invalid; NVMe 1.4, 5.5: Invalid Queue Identifier'],
];
const IO_REASONS: Reasons = [
  [/, (PRP1|list) odd$/, 'QEMU ignores the lowest bits'],
  [/, SGL$/, 'QEMU has SGLs'],
  [/, fused$/, 'QEMU allows another try'],
  [/, out of memory$/, 'QEMU reads what is not there as something, and loses what is written to it'],
  [/^compare, list out of memory$/, 'QEMU allows another try'],
  [/^zeroes, too long$/, 'QEMU zeroes whatever a command can say'],
];

const identify = (cns: number, nsid = 0, more: Partial<CommandValues> = {}): Step => [
  `identify ${cns.toString(16)} of ${nsid.toString(16)} ${JSON.stringify(more)}`,
  0,
  { opcode: Admin.IDENTIFY, nsid, prp1: DATA, cdw10: cns, ...more },
];
const feature = (name: string, opcode: number, cdw10: number, cdw11 = 0, nsid = 0): Step => [
  name,
  0,
  { opcode, nsid, prp1: DATA, cdw10, cdw11 },
];
const queue = (name: string, opcode: number, cdw10: number, cdw11 = 0, prp1 = 0x12_0000): Step => [
  name,
  0,
  { opcode, prp1, cdw10, cdw11 },
];
const size = 63 << 16;
const CREATE: readonly Step[] = [
  queue('create completion queue 1', Admin.CREATE_IO_CQ, size | 1, 1, 0x11_4000),
  queue('create submission queue 1', Admin.CREATE_IO_SQ, size | 1, 0x1_0001, 0x11_0000),
];

ifPresent('registers, and what a controller cannot be enabled with', async t => {
  const [theirs, ours] = await both(t);
  const all = async (each: QtestNvme): Promise<string[]> => {
    const seen: string[] = [];
    for (const offset of [0, 4, 8, 0xc, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38, 0x3c, 0x1000])
      seen.push(`${offset.toString(16)}: ${(await each.register(offset)).toString(16)}`);
    await each.setRegister(Reg.INTMS, 0x55);
    await each.setRegister(Reg.INTMC, 0x11);
    seen.push(`mask ${await each.register(Reg.INTMS)} ${await each.register(Reg.INTMC)}`);
    await each.setRegister(Reg.CC, 0x0046_4001);
    seen.push(`shutdown ${await each.register(Reg.CSTS)}`);
    for (const [name, cc, aqa] of [
      ['pages', 0x0046_0281, 0x3f_003f],
      ['arbitration', 0x0046_0801, 0x3f_003f],
      ['no submissions', 0x0046_0001, 0x3f_0000],
      ['no completions', 0x0046_0001, 0x3f],
      ['all sets', 0x0046_0061, 0x3f_003f],
      ['good', 0x0046_0001, 0x3f_003f],
    ] as const) {
      await each.setRegister(Reg.CC, 0);
      seen.push(`${name} 0: ${await each.register(Reg.CSTS)}`);
      await each.setRegister(Reg.AQA, aqa);
      await each.setRegister(Reg.CC, cc);
      seen.push(`${name} 1: ${await each.register(Reg.CSTS)}`);
    }
    return seen;
  };
  const [a, b] = [await all(theirs), await all(ours)];
  // QEMU takes weighted arbitration, which its CAP.AMS does not have.
  t.deepEqual(
    b.filter((line, index) => line !== a[index]),
    ['arbitration 1: 2'],
  );
});

ifPresent('Identify', async t => {
  const controllers = await both(t);
  const pages = async (cns: number, nsid: number): Promise<Buffer[]> =>
    Promise.all(
      controllers.map(async each => {
        await each.run(0, identify(cns, nsid)[2]);
        return each.read(DATA, 4096);
      }),
    );
  const other = (
    fields: Readonly<Record<string, number>>,
    [theirs, ours]: readonly Buffer[],
  ): Record<string, string> => {
    const places = Object.entries(fields).sort(([, a], [, b]) => a - b);
    const found: Record<string, string> = {};
    for (const [index, [name, at]] of places.entries()) {
      const length = Math.min((places[index + 1]?.[1] ?? at + 4) - at, 8);
      const hex = (page: Buffer): string => page.toString('hex', at, at + length);
      if (hex(theirs!) !== hex(ours!)) found[name] = `${hex(theirs!)} to ${hex(ours!)}`;
    }
    return found;
  };
  t.deepEqual(unexplained(other(IdController, await pages(Cns.CONTROLLER, 0)), CONTROLLER_REASONS), []);
  t.deepEqual(unexplained(other(IdNamespace, await pages(Cns.NAMESPACE, 1)), NAMESPACE_REASONS), []);
  const [theirs, ours] = await pages(Cns.ACTIVE_NAMESPACES, 0);
  t.deepEqual(ours, theirs);
});

ifPresent('admin commands', async t => {
  const controllers = await both(t);
  const get = (id: number, more = 0, cdw11 = 0, nsid = 0): Step =>
    feature(`get ${id.toString(16)} ${more} ${cdw11} ${nsid}`, Admin.GET_FEATURES, id | (more << 8), cdw11, nsid);
  const set = (id: number, cdw11: number, nsid = 0, more = 0): Step =>
    feature(`set ${id.toString(16)} ${cdw11.toString(16)} ${nsid}`, Admin.SET_FEATURES, (id | more) >>> 0, cdw11, nsid);
  const log = (id: number, cdw10 = 0, cdw12 = 0, nsid = 0xffff_ffff): Step => [
    `log ${id} ${cdw10} ${cdw12} ${nsid}`,
    0,
    { opcode: Admin.GET_LOG_PAGE, nsid, prp1: DATA, cdw10: id + cdw10, cdw12 },
  ];
  const all = Object.values(FeatureId);
  const found = await differences(controllers, [
    ...[0, 1, 2, 3, 5, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x1c, 4, 0x20, 0xff].flatMap(cns =>
      [0, 1, 0x101, 0xffff_ffff].map(nsid => identify(cns, nsid)),
    ),
    identify(Cns.CONTROLLER, 0, { prp1: DATA + 2048, prp2: DATA + 0x1004 }),
    identify(Cns.CONTROLLER, 0, { fuse: 1 }),
    identify(Cns.CONTROLLER, 0, { psdt: 1 }),
    ...all.flatMap(id => [0, 1, 2, 3].map(select => get(id, select, 0, id === FeatureId.ERROR_RECOVERY ? 1 : 0))),
    ...[0, 0x0f, 0x10, 0x7f].flatMap(id => [get(id), set(id, 0)]),
    get(FeatureId.ERROR_RECOVERY),
    get(FeatureId.INTERRUPT_VECTOR, 0, 3),
    get(FeatureId.INTERRUPT_VECTOR, 0, 0x1000),
    get(FeatureId.TEMPERATURE_THRESHOLD, 0, 1 << 20),
    set(FeatureId.NUMBER_OF_QUEUES, 0x3_0003),
    set(FeatureId.NUMBER_OF_QUEUES, 0xffff),
    set(FeatureId.ARBITRATION, 0, 0, 0x8000_0000),
    set(FeatureId.VOLATILE_WRITE_CACHE, 0, 1),
    set(FeatureId.VOLATILE_WRITE_CACHE, 1, 0x101),
    set(FeatureId.POWER_MANAGEMENT, 1),
    set(FeatureId.TEMPERATURE_THRESHOLD, 0x150),
    get(FeatureId.TEMPERATURE_THRESHOLD),
    ...[1, 2, 3, 4, 5, 0, 0x80].map(id => log(id, 0x3_0000)),
    log(LogPage.SMART, 0x7f_0000, 516),
    log(LogPage.SMART, 0x7f_0000, 0, 0x101),
    queue('create completion queue 0', Admin.CREATE_IO_CQ, size, 1),
    queue('create completion queue 99', Admin.CREATE_IO_CQ, size | 99, 1),
    queue('create completion queue of one', Admin.CREATE_IO_CQ, 1, 1),
    queue('create completion queue too large', Admin.CREATE_IO_CQ, (0x800 << 16) | 1, 1),
    queue('create completion queue, offset', Admin.CREATE_IO_CQ, size | 1, 1, 0x12_0010),
    queue('create completion queue, scattered', Admin.CREATE_IO_CQ, size | 1, 0),
    queue('create completion queue, vector', Admin.CREATE_IO_CQ, size | 1, 0x1_0003),
    queue('create submission queue, no completions', Admin.CREATE_IO_SQ, size | 1, 0x1_0001),
    ...CREATE,
    queue('create completion queue twice', Admin.CREATE_IO_CQ, size | 1, 1),
    queue('create submission queue twice', Admin.CREATE_IO_SQ, size | 1, 0x1_0001),
    queue('create submission queue 0', Admin.CREATE_IO_SQ, size, 0x1_0001),
    queue('create submission queue of one', Admin.CREATE_IO_SQ, 2, 0x1_0001),
    queue('create submission queue, offset', Admin.CREATE_IO_SQ, size | 2, 0x1_0001, 0x12_0010),
    queue('create submission queue, scattered', Admin.CREATE_IO_SQ, size | 2, 0x1_0000),
    queue('number of queues, too late', Admin.SET_FEATURES, FeatureId.NUMBER_OF_QUEUES, 0x1_0001),
    queue('delete completion queue in use', Admin.DELETE_IO_CQ, 1),
    queue('delete completion queue 0', Admin.DELETE_IO_CQ, 0),
    queue('delete completion queue 2', Admin.DELETE_IO_CQ, 2),
    queue('delete submission queue 0', Admin.DELETE_IO_SQ, 0),
    queue('delete submission queue 2', Admin.DELETE_IO_SQ, 2),
    queue('abort', Admin.ABORT, 1 | (5 << 16)),
    queue('abort, no queue', Admin.ABORT, 9),
    queue('delete submission queue 1', Admin.DELETE_IO_SQ, 1),
    queue('delete completion queue 1', Admin.DELETE_IO_CQ, 1),
    ['opcode 77', 0, { opcode: 0x77 }],
    ['keep alive', 0, { opcode: 0x18 }],
    ['format, no such format', 0, { opcode: Admin.FORMAT_NVM, nsid: 1, cdw10: 0xf }],
    ['format, no such namespace', 0, { opcode: Admin.FORMAT_NVM, nsid: 0x101 }],
  ]);
  t.deepEqual(unexplained(found, ADMIN_REASONS), []);
});

ifPresent('I/O commands', async t => {
  const controllers = await both(t);
  const io = (name: string, opcode: number, values: Partial<CommandValues> = {}): Step => [
    name,
    1,
    { opcode, nsid: 1, prp1: DATA, ...values },
  ];
  const onBlocks = Object.entries({
    read: Io.READ,
    write: Io.WRITE,
    compare: Io.COMPARE,
    zeroes: Io.WRITE_ZEROES,
    verify: Io.VERIFY,
  });
  const found = await differences(controllers, [
    ...CREATE,
    ...onBlocks.flatMap(([name, opcode]) => [
      io(name, opcode),
      io(`${name}, the last block`, opcode, { cdw10: 32767 }),
      io(`${name}, one too far`, opcode, { cdw10: 32767, cdw12: 1 }),
      io(`${name}, far beyond`, opcode, { cdw11: 0xffff_ffff }),
      ...[0, 0x101, 0xffff_ffff].map(nsid => io(`${name} of ${nsid}`, opcode, { nsid })),
      io(`${name}, too long`, opcode, { cdw12: 1024, prp2: DATA + 0x1000 }),
      io(`${name}, PRP1 odd`, opcode, { prp1: DATA + 1 }),
      io(`${name}, PRP2 with an offset`, opcode, { cdw12: 15, prp2: DATA + 0x1200 }),
      io(`${name}, list odd`, opcode, { cdw12: 23, prp2: DATA + 0x1004 }),
      io(`${name}, out of memory`, opcode, { prp1: 0x4000_0000 }),
      io(`${name}, list out of memory`, opcode, { cdw12: 23, prp2: 0x4000_0000 }),
      io(`${name}, fused`, opcode, { fuse: 1 }),
      io(`${name}, SGL`, opcode, { psdt: 1 }),
    ]),
    ...[0, 1, 0x101, 0xffff_ffff].map(nsid => io(`flush ${nsid}`, Io.FLUSH, { nsid })),
    io('ranges', Io.DATASET_MANAGEMENT, { cdw11: 4 }),
    io('ranges, out of memory', Io.DATASET_MANAGEMENT, { cdw11: 4, prp1: 0x4000_0000 }),
    io('opcode 7f', 0x7f),
    io('write uncorrectable', 0x04),
  ]);
  t.deepEqual(unexplained(found, IO_REASONS), []);
  const bytes = Buffer.alloc(8192, 'Remora');
  for (const each of controllers) await each.write(DATA, bytes);
  t.deepEqual(
    await differences(controllers, [
      io('write 16 blocks', Io.WRITE, { cdw10: 100, cdw12: 15, prp2: DATA + 0x1000 }),
      io('compare them', Io.COMPARE, { cdw10: 100, cdw12: 15, prp2: DATA + 0x1000 }),
      io('compare others', Io.COMPARE, { cdw10: 101, cdw12: 15, prp2: DATA + 0x1000 }),
      io('read them', Io.READ, { cdw10: 100, cdw12: 15, prp1: DATA + 0x8000, prp2: DATA + 0x9000 }),
    ]),
    {},
  );
  for (const each of controllers) t.deepEqual(await each.read(DATA + 0x8000, 8192), bytes);
});
