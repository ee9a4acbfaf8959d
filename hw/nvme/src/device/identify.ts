/** The data structures that Identify returns (NVMe 1.4, 5.15.2; those of command sets: NVM Express technical proposal 4056). */
import {
  Cns,
  CQ_ENTRY_SHIFT,
  CRITICAL_TEMPERATURE,
  Ctratt,
  ERROR_ENTRIES,
  FIRMWARE,
  FIRMWARE_BYTES,
  FRMW_ONE_READ_ONLY_SLOT,
  IDENTIFY_BYTES,
  IdController,
  IdNvmController,
  IO_CONTROLLER,
  Lpa,
  MODEL,
  MODEL_BYTES,
  NamespaceIdType,
  NVM_COMMAND_SET,
  Oacs,
  Oaes,
  Oncs,
  SERIAL_BYTES,
  SQ_ENTRY_SHIFT,
  Status,
  SUBSYSTEM_VENDOR,
  VENDOR,
  VERSION,
  VWC_PRESENT,
  WARNING_TEMPERATURE,
} from '../spec/index.js';
import { type Command, Location } from './command.js';
import { NAMESPACE_ID } from './io-commands.js';
import type { Namespace } from './namespace.js';
import { uuidOf, uuidText } from './uuid.js';

export interface IdentifyOptions {
  readonly serial: string;
  /** log2 of the largest transfer, in pages of 4096 bytes. */
  readonly mdts: number;
  /** Asynchronous event requests, less one. */
  readonly aerl: number;
}

/** Abort commands that may be outstanding, less one. */
const ABORT_LIMIT = 3;
/** Arbitration bursts of 2^6 commands are recommended. */
const RECOMMENDED_BURST = 6;
/** QEMU's, 52:54:00. */
const OUI = [0x00, 0x54, 0x52];
/** Of power state 0, in 10 mW. */
const MAX_POWER = 2500;
const FIRST_NSID_LIMIT = 0xffff_fffe;

export class Identify {
  readonly #options: IdentifyOptions;
  readonly #namespace: Namespace | undefined;

  constructor(options: IdentifyOptions, namespace: Namespace | undefined) {
    this.#options = options;
    this.#namespace = namespace;
  }

  /** Fills `page`, which is zero. Returns a status. */
  fill(command: Command, page: Uint8Array): number {
    const cns = command.dword(10) & 0xff;
    const set = command.dword(11) >>> 24;
    switch (cns) {
      case Cns.NAMESPACE:
        return this.#ofNamespace(command, ns => ns.identify(page));
      case Cns.CONTROLLER:
        this.#controller(page);
        return Status.SUCCESS;
      case Cns.ACTIVE_NAMESPACES:
        return this.#active(command, page);
      case Cns.NAMESPACE_DESCRIPTORS:
        if (this.#namespace === undefined) return command.fail(Status.INVALID_NAMESPACE_OR_FORMAT, Location.NSID);
        return this.#ofNamespace(command, () => this.#descriptors(page));
      case Cns.SET_NAMESPACE:
        // Formats have no metadata: nothing to tell.
        if (set !== NVM_COMMAND_SET) return command.fail(Status.INVALID_FIELD, Location.CDW11);
        return this.#ofNamespace(command, () => {});
      case Cns.SET_CONTROLLER:
        if (set !== NVM_COMMAND_SET) return command.fail(Status.INVALID_FIELD, Location.CDW11);
        page[IdNvmController.VSL] = this.#options.mdts;
        page[IdNvmController.WZSL] = this.#options.mdts;
        return Status.SUCCESS;
      case Cns.SET_ACTIVE_NAMESPACES:
        if (set !== NVM_COMMAND_SET) return command.fail(Status.INVALID_FIELD, Location.CDW11);
        return this.#active(command, page);
      case Cns.COMMAND_SETS:
        page[0] = 1 << NVM_COMMAND_SET;
        return Status.SUCCESS;
      default:
        return command.fail(Status.INVALID_FIELD, Location.CDW10);
    }
  }

  #ofNamespace(command: Command, fill: (ns: Namespace) => void): number {
    const { nsid } = command;
    if (this.#namespace !== undefined && nsid === NAMESPACE_ID) {
      fill(this.#namespace);
      return Status.SUCCESS;
    }
    // A namespace that could be there, and is not, has a structure of zeroes.
    if (nsid === NAMESPACE_ID) return Status.SUCCESS;
    return command.fail(Status.INVALID_NAMESPACE_OR_FORMAT, Location.NSID);
  }

  #active(command: Command, page: Uint8Array): number {
    if (command.nsid >= FIRST_NSID_LIMIT) return command.fail(Status.INVALID_NAMESPACE_OR_FORMAT, Location.NSID);
    if (this.#namespace !== undefined && command.nsid < NAMESPACE_ID) page[0] = NAMESPACE_ID;
    return Status.SUCCESS;
  }

  #descriptors(page: Uint8Array): void {
    page[0] = NamespaceIdType.UUID;
    page[1] = 16;
    page.set(uuidOf(`${this.#options.serial}/${NAMESPACE_ID}`), 4);
    page[20] = NamespaceIdType.COMMAND_SET;
    page[21] = 1;
    page[24] = NVM_COMMAND_SET;
  }

  #controller(page: Uint8Array): void {
    const { serial, mdts, aerl } = this.#options;
    const view = new DataView(page.buffer, page.byteOffset, IDENTIFY_BYTES);
    view.setUint16(IdController.VID, VENDOR, true);
    view.setUint16(IdController.SSVID, SUBSYSTEM_VENDOR, true);
    ascii(page, IdController.SN, serial, SERIAL_BYTES);
    ascii(page, IdController.MN, MODEL, MODEL_BYTES);
    ascii(page, IdController.FR, FIRMWARE, FIRMWARE_BYTES);
    page[IdController.RAB] = RECOMMENDED_BURST;
    page.set(OUI, IdController.IEEE);
    page[IdController.MDTS] = mdts;
    view.setUint32(IdController.VER, VERSION, true);
    view.setUint32(IdController.OAES, Oaes.NAMESPACE_ATTRIBUTES, true);
    view.setUint32(IdController.CTRATT, Ctratt.HOST_ID_128, true);
    page[IdController.CNTRLTYPE] = IO_CONTROLLER;
    view.setUint16(IdController.OACS, Oacs.FORMAT, true);
    page[IdController.ACL] = ABORT_LIMIT;
    page[IdController.AERL] = aerl;
    page[IdController.FRMW] = FRMW_ONE_READ_ONLY_SLOT;
    page[IdController.LPA] = Lpa.SMART_PER_NAMESPACE | Lpa.EFFECTS | Lpa.EXTENDED;
    page[IdController.ELPE] = ERROR_ENTRIES - 1;
    view.setUint16(IdController.WCTEMP, WARNING_TEMPERATURE, true);
    view.setUint16(IdController.CCTEMP, CRITICAL_TEMPERATURE, true);
    page[IdController.SQES] = SQ_ENTRY_SHIFT * 0x11;
    page[IdController.CQES] = CQ_ENTRY_SHIFT * 0x11;
    view.setUint32(IdController.NN, NAMESPACE_ID, true);
    const oncs =
      Oncs.COMPARE | Oncs.DATASET_MANAGEMENT | Oncs.WRITE_ZEROES | Oncs.SELECT | Oncs.TIMESTAMP | Oncs.VERIFY;
    view.setUint16(IdController.ONCS, oncs, true);
    page[IdController.VWC] = VWC_PRESENT;
    ascii(page, IdController.SUBNQN, `nqn.2014-08.org.nvmexpress:uuid:${uuidText(uuidOf(serial))}\0`, 0);
    view.setUint16(IdController.PSD0, MAX_POWER, true);
  }
}

/** `text` at `at`, filled up with spaces to `length`. */
function ascii(page: Uint8Array, at: number, text: string, length: number): void {
  for (const [index, letter] of [...text.padEnd(length)].entries()) page[at + index] = letter.charCodeAt(0);
}
