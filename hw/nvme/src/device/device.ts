/**
 * An NVM Express controller by the NVM Express base specification 1.4, with one namespace on a file or in memory.
 * Omits: SGLs, metadata, fused operations, namespace management, firmware, reservations, controller memory buffer, shadow doorbells and
 * NVM subsystem reset.
 */
import {
  ConfigError,
  type Device,
  type Inspector,
  type MmioOps,
  Region,
  type ResetPhase,
  type StateReader,
  type StateWriter,
} from '@remora/core';
import { ExpressType, type PciDeviceContext, PciFunction } from '@remora/pci';
import type { Backing } from '../backing/backing.js';
import { FileBacking } from '../backing/file-backing.js';
import { MemoryBacking } from '../backing/memory-backing.js';
import type { NvmeConfig } from '../config.js';
import {
  CLASS,
  DEVICE,
  MSIX_BAR,
  Reg,
  REGISTER_BAR,
  REVISION,
  SERIAL_BYTES,
  SUBSYSTEM,
  SUBSYSTEM_VENDOR,
  VENDOR,
} from '../spec/index.js';
import { Controller } from './controller.js';
import { Interrupts } from './interrupts.js';
import { Namespace } from './namespace.js';
import type { Queues } from './queue-commands.js';

const DEFAULT_SIZE = 0x400_0000;
/** Room for the doorbells of QEMU's default number of queues. */
const LEAST_BAR = 0x4000;
const MOST_MSI = 32;

export type NvmeContext = Pick<PciDeviceContext, 'name' | 'plug' | 'clock' | 'ledger'>;

export class Nvme implements Device {
  readonly name: string;
  readonly fn: PciFunction;
  readonly #context: NvmeContext;
  readonly #config: NvmeConfig;
  readonly #queues: Queues = { submission: [], completion: [] };
  readonly #interrupts: Interrupts;
  #controller: Controller | undefined;
  #backing: Backing | undefined;

  constructor(context: NvmeContext, config: NvmeConfig) {
    this.name = context.name;
    this.#context = context;
    this.#config = config;
    this.fn = new PciFunction(context.name, {
      vendor: VENDOR,
      device: DEVICE,
      revision: REVISION,
      classCode: CLASS,
      subsystemVendor: SUBSYSTEM_VENDOR,
      subsystem: SUBSYSTEM,
      interruptPin: 1,
      pcie: true,
    });
    const queues = config.max_ioqpairs + 1;
    const bytes = Math.max(LEAST_BAR, 2 ** Math.ceil(Math.log2(Reg.DOORBELLS + 8 * queues)));
    this.fn.addBar(REGISTER_BAR, Region.mmio(`${context.name}.registers`, bytes, this.#ops), { type: 'mem64' });
    this.#interrupts = new Interrupts(
      this.fn,
      {
        msi: config.msi,
        msiVectors: Math.min(MOST_MSI, 2 ** Math.ceil(Math.log2(queues))),
        msix: config.msix,
        msixVectors: config.msix_qsize,
        msixBar: MSIX_BAR,
      },
      this.#queues.completion,
    );
    this.fn.enableExpress(ExpressType.ENDPOINT);
    this.fn.onReset(() => this.#controller?.reset());
  }

  /** Registers are read in any width, and written as dwords; a quadword is two. */
  readonly #ops: MmioOps = {
    impl: { min: 1, max: 4 },
    read: (offset, size) => {
      const word = this.#controller!.read(offset & ~3);
      return size === 4 ? word : word >>> (8 * (offset & 3));
    },
    write: (offset, value, size) => {
      if (size === 4) this.#controller!.write(offset, value);
    },
  };

  /** @throws ConfigError if the namespace's file cannot be used. */
  realize(): void {
    const { name, clock, ledger } = this.#context;
    const config = this.#config;
    const backing = openBacking(config);
    try {
      const { readonly, logical_block_size: blockBytes } = config;
      this.#controller = new Controller({
        ...{ fn: this.fn, clock, ledger, config, queues: this.#queues, interrupts: this.#interrupts },
        serial: config.serial ?? name.slice(0, SERIAL_BYTES),
        vectors: Math.max(config.msix ? config.msix_qsize : 1, config.msi ? MOST_MSI : 1),
        namespace: backing === undefined ? undefined : new Namespace({ backing, readonly, blockBytes }),
      });
      this.#context.plug(this.fn);
    } catch (failure) {
      backing?.[Symbol.dispose]();
      throw failure;
    }
    this.#backing = backing;
  }

  /** Every command is done when its doorbell's write is: there is nothing to cancel before IOMMUs reset. */
  reset(phase: ResetPhase): void {
    if (phase === 'hold') this.fn.reset();
  }

  unplug(): void {
    this.fn.bus?.unplug(this.fn);
    this.#close();
  }

  /** The contents of a namespace in memory are state; those of a file are the file's. */
  save(into: StateWriter): void {
    this.#backing?.flush();
    this.#controller!.save(into);
  }

  load(from: StateReader): void {
    this.#controller!.load(from);
  }

  inspect(into: Inspector): void {
    this.fn.inspect(into);
    this.#controller?.inspect(into);
  }

  [Symbol.dispose](): void {
    this.fn.bus?.unplug(this.fn);
    this.#close();
  }

  #close(): void {
    this.#backing?.flush();
    this.#backing?.[Symbol.dispose]();
    this.#backing = undefined;
  }
}

/** Undefined for a controller without a namespace. @throws ConfigError */
function openBacking({ file, size, readonly, logical_block_size: block }: NvmeConfig): Backing | undefined {
  if (size !== undefined && size % block !== 0)
    throw new ConfigError('size', `${size} is not a multiple of logical_block_size, which is ${block}`);
  if (file === undefined) return size === 0 ? undefined : new MemoryBacking(size ?? DEFAULT_SIZE);
  const backing = FileBacking.open({ path: file, readonly, size });
  const wrong = backing.size === 0 || backing.size % block !== 0;
  if (!wrong) return backing;
  backing[Symbol.dispose]();
  throw new ConfigError('file', `"${file}" has ${backing.size} bytes, which is no number of blocks of ${block}`);
}
