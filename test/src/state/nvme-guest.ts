/** Software that drives an NVMe controller behind a vIOMMU in pass-through: commands of all kinds, and mistakes. */
import type { Random } from '@remora/bits';
import type { Machine } from '@remora/machine';
import { AdminOpcode, Cns, FeatureId, IoOpcode, LogPage, Reg } from '@hw/nvme';
import { NvmeDriver, transfer } from '@hw/nvme/driver';
import type { Recording } from './operations.js';

const BDF = '00:06.0';
const BASE = 0xe000_0000;
const MSI_ID = 0x05;
const PAGE = 4096;
/** Pages for queues, then those for data, which are used again and again. */
const QUEUES = 0x10_0000;
const DATA = 0x20_0000;
const DATA_PAGES = 16;
const BLOCKS = 64;

const FEATURES = [
  FeatureId.ARBITRATION,
  FeatureId.TEMPERATURE_THRESHOLD,
  FeatureId.VOLATILE_WRITE_CACHE,
  FeatureId.INTERRUPT_COALESCING,
  FeatureId.INTERRUPT_VECTOR,
  FeatureId.ASYNC_EVENT,
  FeatureId.TIMESTAMP,
  FeatureId.HOST_IDENTIFIER,
];

export class NvmeGuest {
  readonly #recording: Recording;
  readonly #random: Random;
  readonly #machine: Machine;
  readonly #driver: NvmeDriver;
  #queues = QUEUES;
  #data = 0;

  constructor(recording: Recording, random: Random) {
    this.#recording = recording;
    this.#random = random;
    this.#machine = recording.machine;
    const { config, memory } = this.#machine;
    config.write(BDF, 0x10, BASE, 4);
    config.write(BDF, 0x04, 6, 2);
    const msi = config.functionAt(BDF)!.capabilities.find(MSI_ID)!;
    config.write(BDF, msi + 4, 0xfee0_1000, 4);
    config.write(BDF, msi + 12, 0x40, 2);
    config.write(BDF, msi + 2, 0x11, 2);
    const allocate = (pages: number) => {
      const cpu = this.#starting ? this.#queues : DATA + ((this.#data += pages) % DATA_PAGES) * PAGE;
      if (this.#starting) this.#queues += pages * PAGE;
      return { cpu, device: cpu };
    };
    this.#driver = new NvmeDriver({ memory, bar: BASE, allocate });
    this.#start();
  }

  #starting = false;

  #start(): void {
    this.#starting = true;
    this.#queues = QUEUES;
    this.#driver.enable({ entries: 16 });
    this.#driver.createQueues(1, { entries: 8, vector: 1 });
    this.#starting = false;
  }

  /** Sets a feature or looks at it. */
  #feature(): void {
    const random = this.#random;
    const cdw10 = FEATURES[random.below(FEATURES.length)]!;
    const opcode = random.below(2) === 0 ? AdminOpcode.SET_FEATURES : AdminOpcode.GET_FEATURES;
    this.#driver.run(0, {
      opcode,
      prp1: DATA,
      cdw10,
      cdw11: opcode === AdminOpcode.SET_FEATURES ? random.below(400) : 0,
    });
    this.#driver.peek(DATA, 16);
  }

  act(): void {
    const random = this.#random;
    const driver = this.#driver;
    const prp1 = DATA + random.below(DATA_PAGES) * PAGE;
    const start = random.below(BLOCKS);
    const io = (opcode: number, blocks = 1 + random.below(8)): void => {
      // Completions are taken later, so that some commands wait for room.
      driver.submit(1, { ...transfer(opcode, start, blocks), prp1, prp2: DATA });
    };
    const actions: (() => void)[] = [
      () => driver.poke(prp1, Uint8Array.of(random.next(), random.next(), random.next())),
      ...Array<() => void>(3).fill(() => io(IoOpcode.WRITE)),
      ...Array<() => void>(2).fill(() => io(IoOpcode.READ)),
      () => io(IoOpcode.COMPARE),
      () => io(IoOpcode.WRITE_ZEROES),
      () => io(IoOpcode.READ, 4096),
      () => void driver.peek(prp1, 64),
      ...Array<() => void>(3).fill(() => void driver.poll(1)),
      ...Array<() => void>(2).fill(() => void driver.poll(0)),
      ...Array<() => void>(2).fill(() => void driver.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST })),
      () => driver.setRegister(Reg.DOORBELLS + 8 * 7, 1),
      () => driver.setRegister(Reg.DOORBELLS + 8, 0xffff),
      () => driver.setRegister(Reg.INTMS, 1 + random.below(3)),
      () => driver.setRegister(Reg.INTMC, 1 + random.below(3)),
      () => void driver.logPage(LogPage.ERROR, 256),
      ...Array<() => void>(6).fill(() => this.#feature()),
      () => void driver.logPage(LogPage.SMART, 512),
      () => void driver.identify(Cns.NAMESPACE, 1),
      () =>
        void (
          random.below(3) === 0 && driver.run(0, { opcode: AdminOpcode.FORMAT_NVM, nsid: 1, cdw10: random.below(3) })
        ),
      () => void (random.below(8) === 0 && this.#start()),
      () => this.#recording.do({ op: 'clock', ns: 1000_000_000 * random.below(5000) }),
      () => [Reg.CSTS, Reg.CC, Reg.AQA, Reg.INTMS].forEach(at => driver.register(at)),
    ];
    actions[random.below(actions.length)]!();
  }
}
