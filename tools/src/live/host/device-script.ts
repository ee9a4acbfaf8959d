/** A device of a group: what it tells of itself, its configuration space, its registers, and its interrupts. */
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_TYPE1v2_IOMMU,
  VfioDeviceInfo,
  VfioIrqInfo,
  VfioIrqSet,
  VfioIrqSetFlag,
  VfioPciIrq,
  VfioPciRegion,
  VfioRegionInfo,
  viewOf,
} from '@remora/uapi';
import type { HostSyscalls } from '@remora/host';
import { deviceName } from './container-script.js';
import { containerOf, hex } from './mapping-script.js';
import type { HostRig } from './rig.js';
import type { Output, Script } from './script.js';

const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = VfioIrqSetFlag;
/** As Linux's vfio-pci lays its regions out: index << 40. */
const REGION_STRIDE = 2 ** 40;
const COMMAND = 4;
const MEMORY_AND_MASTER = 6;
const REG = { ID: 0, LIVENESS: 4, IRQ_STATUS: 0x24, IRQ_RAISE: 0x60, IRQ_ACK: 0x64 } as const;
const TRIES = 200;

export function deviceScript(script: Script, rig: HostRig): void {
  const { syscalls, devices } = rig;
  const { container, group } = containerOf(rig, VFIO_TYPE1v2_IOMMU);
  script.chapter('device');
  const device = script.openBy('open', group, VFIO_GROUP_GET_DEVICE_FD, deviceName(devices[0]));
  describe(script, device);
  regions(script, device);
  interrupts(script, rig, device);
  script.chapter('device');
  script.ioctl('reset', device, VFIO_DEVICE_RESET);
  for (const fd of [device, group, container]) syscalls.close(fd);
}

/** What a device tells of itself: of a group's, or one that is bound to an iommufd. */
export function describe(script: Script, device: number): void {
  const info = (argsz: number): Uint8Array => VfioDeviceInfo.encode({ argsz });
  const told = (view: DataView): Output => {
    const { argsz, flags, num_regions, num_irqs } = VfioDeviceInfo.decode(view);
    return { argsz, flags, num_regions, num_irqs };
  };
  script.ioctl('information of 15 bytes', device, VFIO_DEVICE_GET_INFO, info(15));
  script.ioctl('information of 16 bytes', device, VFIO_DEVICE_GET_INFO, info(16), told);
  script.ioctl('information of 20 bytes', device, VFIO_DEVICE_GET_INFO, info(20), told);
  script.ioctl('region of 31 bytes', device, VFIO_DEVICE_GET_REGION_INFO, VfioRegionInfo.encode({ argsz: 31 }));
  for (let index = 0; index <= 9; index++) {
    const argument = VfioRegionInfo.encode({ argsz: VfioRegionInfo.size, index });
    script.ioctl(`region ${index}`, device, VFIO_DEVICE_GET_REGION_INFO, argument, view => {
      const { argsz, flags, cap_offset, size, offset } = VfioRegionInfo.decode(view);
      return { argsz, flags, cap_offset, size: hex(size), offset: hex(offset) };
    });
  }
  script.ioctl('interrupt of 15 bytes', device, VFIO_DEVICE_GET_IRQ_INFO, VfioIrqInfo.encode({ argsz: 15 }));
  for (let index = 0; index <= 5; index++) {
    const argument = VfioIrqInfo.encode({ argsz: VfioIrqInfo.size, index });
    script.ioctl(`interrupt ${index}`, device, VFIO_DEVICE_GET_IRQ_INFO, argument, view => {
      const { flags, count } = VfioIrqInfo.decode(view);
      return { flags, count };
    });
  }
  script.ioctl('unknown ioctl', device, 0x3b63);
}

/** Reads and writes the regions of an open device. */
export class Regions {
  readonly #syscalls: HostSyscalls;
  readonly #fd: number;

  constructor(syscalls: HostSyscalls, fd: number) {
    this.#syscalls = syscalls;
    this.#fd = fd;
  }

  /** The value of so many bytes, or the errno. */
  read(index: number, offset: number, bytes: number): { result: number; value: string } {
    const buffer = new Uint8Array(bytes);
    const result = this.#syscalls.pread(this.#fd, buffer, index * REGION_STRIDE + offset);
    return { result, value: hex(buffer.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n)) };
  }

  write(index: number, offset: number, value: number, bytes: number): number {
    const buffer = Uint8Array.from({ length: bytes }, (_, at) => Math.floor(value / 2 ** (8 * at)) & 0xff);
    return this.#syscalls.pwrite(this.#fd, buffer, index * REGION_STRIDE + offset);
  }

  /** A register of 4 bytes of edu's. */
  get(offset: number): number {
    return Number(this.read(VfioPciRegion.BAR0, offset, 4).value);
  }

  set(offset: number, value: number): number {
    return this.write(VfioPciRegion.BAR0, offset, value, 4);
  }

  /** Lets the device answer, and reach memory. */
  enable(): number {
    return this.write(VfioPciRegion.CONFIG, COMMAND, MEMORY_AND_MASTER, 2);
  }
}

function regions(script: Script, device: number): void {
  const { syscalls } = script;
  const at = new Regions(syscalls, device);
  const read = (step: string, index: number, offset: number, bytes: number): void => {
    const { result, value } = at.read(index, offset, bytes);
    script.say(step, result, value);
  };
  const { CONFIG, BAR0 } = VfioPciRegion;
  script.chapter('configuration');
  read('vendor and device', CONFIG, 0, 4);
  read('class and revision', CONFIG, 8, 4);
  read('header', CONFIG, 0x0e, 1);
  read('subsystem', CONFIG, 0x2c, 4);
  read('pin', CONFIG, 0x3d, 1);
  read('five bytes', CONFIG, 0x2a, 5);
  read('crooked', CONFIG, 1, 2);
  read('no bytes', CONFIG, 0, 0);
  read('the last two of 256', CONFIG, 254, 4);
  read('past the end', CONFIG, 4096, 4);
  read('region 5', 5, 0, 4);
  read('region 9', 9, 0, 4);
  read('command at first', CONFIG, COMMAND, 2);
  script.say('no command', at.write(CONFIG, COMMAND, 0, 2));
  script.say('registers while they are off', at.read(BAR0, REG.ID, 4).result);
  script.say('command', at.enable());
  read('command is', CONFIG, COMMAND, 2);
  script.say('BAR 0', at.write(CONFIG, 0x10, 0xffff_ffff, 4));
  read('size of BAR 0', CONFIG, 0x10, 4);
  script.say('BAR 0 elsewhere', at.write(CONFIG, 0x10, 0xe000_0000, 4));
  read('BAR 0 is', CONFIG, 0x10, 4);
  script.say('vendor', at.write(CONFIG, 0, 0xffff, 2));
  read('vendor is', CONFIG, 0, 2);
  script.say('line', at.write(CONFIG, 0x3c, 0x5a, 1));
  read('line is', CONFIG, 0x3c, 1);
  script.say('write past the end', at.write(CONFIG, 4096, 0, 1));

  script.chapter('registers');
  read('identification', BAR0, REG.ID, 4);
  script.say('liveness', at.set(REG.LIVENESS, 0x1234_5678));
  read('liveness is', BAR0, REG.LIVENESS, 4);
  read('two at once', BAR0, REG.ID, 8);
  read('last four bytes', BAR0, 0xf_fffc, 4);
  read('across the end', BAR0, 0xf_fffc, 8);
  read('past the end', BAR0, 0x10_0000, 4);
}

function interrupts(script: Script, rig: HostRig, device: number): void {
  const { syscalls } = rig;
  const at = new Regions(rig.syscalls, device);
  script.chapter('interrupts');
  const irqs = (
    step: string,
    flags: number,
    index: number,
    start: number,
    data: readonly number[],
    count = data.length,
  ) => {
    const size = (flags & DATA_EVENTFD) !== 0 ? 4 : 1;
    const bytes = new Uint8Array(VfioIrqSet.size + size * data.length);
    const view = viewOf(bytes);
    VfioIrqSet.write(view, { argsz: bytes.length, flags, index, start, count });
    data.forEach((each, n) =>
      size === 4 ? view.setInt32(VfioIrqSet.size + 4 * n, each, true) : view.setUint8(VfioIrqSet.size + n, each),
    );
    script.ioctl(step, device, VFIO_DEVICE_SET_IRQS, bytes);
  };
  const event = syscalls.eventfd();
  const { MSI, MSIX, INTX } = VfioPciIrq;
  const trigger = DATA_EVENTFD | ACTION_TRIGGER;
  irqs('kind 9', trigger, 9, 0, [event]);
  irqs('no data type', ACTION_TRIGGER, MSI, 0, [], 1);
  irqs('two data types', DATA_NONE | DATA_BOOL | ACTION_TRIGGER, MSI, 0, [], 1);
  irqs('two actions', DATA_NONE | ACTION_MASK | ACTION_TRIGGER, MSI, 0, [], 1);
  irqs('unknown flag', trigger | 0x40, MSI, 0, [event]);
  irqs('vector 1 of 1', trigger, MSI, 1, [event]);
  irqs('two vectors of one', trigger, MSI, 0, [event, event]);
  irqs('fewer descriptors than vectors', trigger, MSI, 0, [], 1);
  irqs('MSI-X, of which there is none', trigger, MSIX, 0, [event]);
  irqs('a closed descriptor', trigger, MSI, 0, [4095]);
  irqs('what is no eventfd', trigger, MSI, 0, [device]);
  irqs('trigger before it is set up', DATA_NONE | ACTION_TRIGGER, MSI, 0, [], 1);
  irqs('disable before it is set up', DATA_NONE | ACTION_TRIGGER, MSI, 0, [], 0);
  irqs('mask MSI', DATA_NONE | ACTION_MASK, MSI, 0, [], 1);
  irqs('set up', trigger, MSI, 0, [event]);
  irqs('set up again', trigger, MSI, 0, [event]);
  irqs('the pin beside it', trigger, INTX, 0, [event]);
  irqs('raised by the caller', DATA_NONE | ACTION_TRIGGER, MSI, 0, [], 1);
  script.say('events of the caller', taken(rig, event));
  irqs('raised by the caller, with truth', DATA_BOOL | ACTION_TRIGGER, MSI, 0, [1]);
  irqs('not raised by the caller', DATA_BOOL | ACTION_TRIGGER, MSI, 0, [0]);
  script.say('events of the caller again', taken(rig, event));
  script.say('raise', at.set(REG.IRQ_RAISE, 5));
  script.say('events of the device', taken(rig, event));
  script.say('status', 0, at.get(REG.IRQ_STATUS));
  script.say('acknowledge', at.set(REG.IRQ_ACK, 5));
  irqs('take the eventfd away', trigger, MSI, 0, [-1]);
  at.set(REG.IRQ_RAISE, 1);
  script.say('events without one', taken(rig, event, 3));
  at.set(REG.IRQ_ACK, 1);
  irqs('disable', DATA_NONE | ACTION_TRIGGER, MSI, 0, [], 0);
  irqs('disable again', DATA_NONE | ACTION_TRIGGER, MSI, 0, [], 0);
  irqs('unmask the pin', DATA_NONE | ACTION_UNMASK, INTX, 0, [], 1);
  irqs('the pin', trigger, INTX, 0, [event]);
  at.set(REG.IRQ_RAISE, 2);
  script.say('events of the pin', taken(rig, event));
  at.set(REG.IRQ_ACK, 2);
  irqs('unmask the pin that was set up', DATA_NONE | ACTION_UNMASK, INTX, 0, [], 1);
  at.set(REG.IRQ_RAISE, 2);
  script.say('events of the pin again', taken(rig, event));
  at.set(REG.IRQ_ACK, 2);
  irqs('disable the pin', DATA_NONE | ACTION_TRIGGER, INTX, 0, [], 0);
  syscalls.close(event);
}

/** How often an eventfd was signalled: waits until it was. */
export function taken({ syscalls, wait }: HostRig, event: number, tries = TRIES): number {
  const count = new Uint8Array(8);
  for (let attempt = 0; attempt < tries; attempt++) {
    if (syscalls.read(event, count) === 8) return Number(viewOf(count).getBigUint64(0, true));
    wait();
  }
  return 0;
}
