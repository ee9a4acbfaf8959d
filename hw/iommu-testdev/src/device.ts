/**
 * iommu-testdev: writes a known pattern at an address that the IOMMU translates and reads it back where it should have landed.
 * It tests an IOMMU without firmware or guest. Omits: anything that a faithful PCI Express endpoint would have.
 */
import {
  type AddressSpace,
  type Device,
  type Inspector,
  MemTx,
  type MmioOps,
  Region,
  type ResetPhase,
  type StateReader,
  type StateWriter,
} from '@remora/core';
import { type PciDeviceContext, PciFunction, QEMU_SUBSYSTEM } from '@remora/pci';
import {
  Attributes,
  BAR_BYTES,
  CLASS,
  DEVICE,
  Doorbell,
  MAX_LENGTH,
  PATTERN,
  Reg,
  Result,
  Space,
  VENDOR,
} from './spec.js';

export class IommuTestdev implements Device {
  readonly name: string;
  readonly fn: PciFunction;
  readonly #plug: PciDeviceContext['plug'];
  readonly #memory: AddressSpace;
  readonly #regs = new Int32Array(BAR_BYTES / 4);
  #armed = false;

  constructor(context: Pick<PciDeviceContext, 'name' | 'plug' | 'guestMemory'>) {
    this.name = context.name;
    this.#plug = fn => context.plug(fn);
    this.#memory = context.guestMemory;
    this.fn = new PciFunction(context.name, { vendor: VENDOR, device: DEVICE, classCode: CLASS, ...QEMU_SUBSYSTEM });
    this.fn.addBar(0, Region.mmio(`${context.name}.registers`, BAR_BYTES, this.#ops), { type: 'mem32' });
    this.fn.onReset(() => this.#clear());
    this.#clear();
  }

  readonly #ops: MmioOps = {
    valid: { min: 4, max: 4 },
    impl: { min: 4, max: 4 },
    read: offset => {
      if (offset === Reg.TRIGGERING) {
        this.#result = this.#run();
        return 0;
      }
      return this.#regs[offset >>> 2]! >>> 0;
    },
    write: (offset, value) => {
      switch (offset) {
        case Reg.GVA_LO:
        case Reg.GVA_HI:
        case Reg.GPA_LO:
        case Reg.GPA_HI:
        case Reg.LEN:
        case Reg.ATTRS:
          this.#regs[offset >>> 2] = value;
          break;
        case Reg.DBELL:
          this.#regs[offset >>> 2] = value;
          this.#armed = Doorbell.fields.arm.get(this.#regs, Reg.DBELL >>> 2) !== 0;
          this.#result = this.#armed ? Result.ARMED : Result.IDLE;
          break;
        default:
      }
    },
  };

  /** Consumes the armed request, whatever comes of it. */
  #run(): number {
    if (!this.#armed) return Result.NOT_ARMED;
    this.#armed = false;
    const length = this.#regs[Reg.LEN >>> 2]! >>> 0;
    if (length === 0 || length > MAX_LENGTH) return Result.BAD_LENGTH;
    if (!this.#attributesAgree()) return Result.BAD_ATTRIBUTES;
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = PATTERN >>> (8 * (i & 3));
    const written = this.fn.dma.write(this.#regs[Reg.GVA_HI >>> 2]!, this.#regs[Reg.GVA_LO >>> 2]!, bytes);
    if (written !== MemTx.OK) return Result.WRITE_FAILED;
    const back = new Uint8Array(length);
    const read = this.#memory.read(this.#regs[Reg.GPA_HI >>> 2]!, this.#regs[Reg.GPA_LO >>> 2]!, back);
    if (read !== MemTx.OK) return Result.READ_FAILED;
    return back.every((byte, i) => byte === bytes[i]) ? Result.OK : Result.MISMATCH;
  }

  /** A named space must be one of the two that exist here, and agree with the secure bit. */
  #attributesAgree(): boolean {
    const at = Reg.ATTRS >>> 2;
    const { secure, space, valid } = Attributes.fields;
    if (valid.get(this.#regs, at) === 0) return true;
    return space.get(this.#regs, at) === (secure.get(this.#regs, at) !== 0 ? Space.SECURE : Space.NONSECURE);
  }

  set #result(code: number) {
    this.#regs[Reg.RESULT >>> 2] = code;
  }

  #clear(): void {
    this.#regs.fill(0);
    this.#armed = false;
    this.#result = Result.IDLE;
  }

  realize(): void {
    this.#plug(this.fn);
  }

  reset(phase: ResetPhase): void {
    if (phase === 'hold') this.fn.reset();
  }

  unplug(): void {
    this.fn.bus?.unplug(this.fn);
  }

  save(into: StateWriter): void {
    into.words('registers', this.#regs).flag('armed', this.#armed);
  }

  load(from: StateReader): void {
    from.words('registers', this.#regs);
    this.#armed = from.flag('armed');
  }

  inspect(into: Inspector): void {
    this.fn.inspect(into);
    into.value('armed', this.#armed);
    into.value('result', `0x${(this.#regs[Reg.RESULT >>> 2]! >>> 0).toString(16)}`);
    into.record('attrs', Attributes, this.#regs, Reg.ATTRS >>> 2);
  }

  [Symbol.dispose](): void {
    this.fn.bus?.unplug(this.fn);
  }
}
