// Random reads, writes, compares, zeroes and deallocations with random PRPs, against a copy of the namespace.
import { Random } from '@remora/bits';
import test from 'ava';
import { type Page, prpsFor, transfer } from './driver/index.js';
import { code, pattern, rig } from './rig.test.helper.js';
import { IoOpcode, Status } from './spec/index.js';

const PAGE = 4096;
const OPERATIONS = 250;
const FRAMES = 4096;
/** 32 MiB. */
const FIRST_FRAME = 8192;
const NOISE = pattern(3 * 2 ** 20);

for (const [name, seed, blockBytes, mdts] of [
  ['blocks of 512 bytes', 1, 512, 7],
  ['blocks of 4096 bytes', 2, 4096, 8],
  ['short transfers', 3, 512, 2],
] as const) {
  test(name, t => {
    const random = new Random(seed);
    const { driver, addressSpace: memory } = rig({ size: '2M', logical_block_size: blockBytes, mdts });
    const blocks = (2 * 2 ** 20) / blockBytes;
    const most = (PAGE << mdts) / blockBytes;
    const copy = new Uint8Array(2 * 2 ** 20);
    // Frames above the driver's own, each used once in a transfer.
    const frames = Array.from({ length: FRAMES }, (_, index) => FIRST_FRAME + index);
    const counts = new Map<number, number>();
    const noise = (length: number): Uint8Array => {
      const first = random.below(NOISE.length - length);
      return NOISE.slice(first, first + length);
    };
    /** A buffer of scattered pages from a random dword on, filled with `bytes`. */
    const buffer = (bytes: Uint8Array) => {
      const offset = random.below(3) === 0 ? 0 : random.below(PAGE / 4) * 4;
      random.shuffle(frames);
      let next = 0;
      const page = (): Page => ({ cpu: frames[next]! * PAGE, device: frames[next++]! * PAGE });
      const pages = Array.from({ length: Math.ceil((offset + bytes.length) / PAGE) }, page);
      const pieces: [cpu: number, from: number, to: number][] = pages.map(({ cpu }, index) => {
        const from = Math.max(0, index * PAGE - offset);
        return [index === 0 ? cpu + offset : cpu, from, Math.min(bytes.length, (index + 1) * PAGE - offset)];
      });
      for (const [cpu, from, to] of pieces) driver.poke(cpu, bytes.subarray(from, to));
      const listOffset = random.below(2) === 0 ? 0 : random.below(512) * 8;
      const prps = prpsFor({ pages, offset, bytes: bytes.length, memory, page, listOffset });
      return { prps, contents: () => Buffer.concat(pieces.map(([cpu, from, to]) => driver.peek(cpu, to - from))) };
    };
    for (let count = 0; count < OPERATIONS; count++) {
      const start = random.below(blocks);
      const length = 1 + random.below(Math.min(blocks - start, random.below(4) === 0 ? most : Math.min(most, 24)));
      const [from, to] = [start * blockBytes, (start + length) * blockBytes];
      const opcodes = [
        IoOpcode.READ,
        IoOpcode.WRITE,
        IoOpcode.COMPARE,
        IoOpcode.WRITE_ZEROES,
        IoOpcode.DATASET_MANAGEMENT,
      ];
      const opcode = opcodes[random.below(random.below(3) === 0 ? opcodes.length : 3)]!;
      counts.set(opcode, (counts.get(opcode) ?? 0) + 1);
      const command = transfer(opcode, start, length);
      if (opcode === IoOpcode.READ) {
        const { prps, contents } = buffer(noise(to - from));
        driver.expect(1, { ...command, ...prps });
        if (Buffer.compare(contents(), copy.subarray(from, to)) !== 0) return t.fail(`read ${count}`);
      } else if (opcode === IoOpcode.WRITE) {
        const data = noise(to - from);
        driver.expect(1, { ...command, ...buffer(data).prps });
        copy.set(data, from);
      } else if (opcode === IoOpcode.COMPARE) {
        const data = copy.slice(from, to);
        const wrong = random.below(2) === 0;
        if (wrong) data[random.below(data.length)]! ^= 1 << random.below(8);
        const status = code(driver.run(1, { ...command, ...buffer(data).prps }));
        if (status !== (wrong ? Status.COMPARE_FAILURE : 0)) return t.fail(`compare ${count}`);
      } else if (opcode === IoOpcode.WRITE_ZEROES) {
        driver.expect(1, command);
        copy.fill(0, from, to);
      } else {
        const ranges = new BigUint64Array([BigInt(length) << 32n, BigInt(start)]);
        const { prps } = buffer(new Uint8Array(ranges.buffer));
        driver.expect(1, { opcode, nsid: 1, ...prps, cdw10: 0, cdw11: 4 });
        copy.fill(0, from, to);
      }
    }
    t.true(
      [...counts.values()].every(count => count > 10),
      JSON.stringify([...counts]),
    );
    const all: Uint8Array[] = [];
    for (let at = 0; at < blocks; at += most) all.push(driver.read(at, Math.min(most, blocks - at), blockBytes));
    t.is(Buffer.compare(Buffer.concat(all), copy), 0);
  });
}
