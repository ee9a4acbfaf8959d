import {
  GlobalCommand,
  PAGE_QUEUE_OFFSET_MASK,
  Prs,
  Reg,
  VERSION,
  VCCAP_PAS,
  WINDOW_BYTES,
  type VirtualCommandLayout,
} from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import { RegisterFile } from './register-file.js';

const MASKED = 0x8000_0000 | 0;
const MESSAGE_DATA = 0xffff;
const MESSAGE_ADDRESS = ~3;

/** The registers of a unit with these capabilities (VT-d 11.4). What is not declared reads 0 and ignores writes. */
export function registerMap(caps: Capabilities, behaviour: Behaviour, vcmd: VirtualCommandLayout): RegisterFile {
  const file = new RegisterFile(WINDOW_BYTES);
  const upperAddress = caps.extendedInterruptMode && behaviour.upperMessageAddress ? -1 : 0;
  file.define32(Reg.VER, VERSION);
  file.define64(Reg.CAP, caps.capHi, caps.capLo);
  file.define64(Reg.ECAP, caps.ecapHi, caps.ecapLo);
  file.define32(Reg.GCMD, 0, 0xff80_0000 | 0, 0, -1);
  file.define32(Reg.GSTS, 0);
  file.define64(Reg.RTADDR, 0, 0, -1, ~0x3ff);

  // CCMD: ICC and CIRG; FM, SID (write-only) and DID.
  file.define32(Reg.CCMD, 0, -1, 0, 0xffff_0000 | 0);
  file.define32(Reg.CCMD + 4, 0, 0xe000_0003 | 0, 0, 3);
  // IVA is write-only. IOTLB: IVT, IIRG, DR, DW, DID.
  file.define32(caps.iotlbBase, 0, ~0xf80, 0, -1);
  file.define32(caps.iotlbBase + 4, 0, -1, 0, -1);
  file.define64(caps.iotlbBase + 8, 0, 0, 0xb003_ffff | 0, 0);

  file.define32(Reg.FSTS, 0, 0, behaviour.clearableFaultStatus);
  file.define32(Reg.FECTL, MASKED, MASKED);
  file.define32(Reg.FEDATA, 0, MESSAGE_DATA);
  file.define32(Reg.FEADDR, 0, MESSAGE_ADDRESS);
  file.define32(Reg.FEUADDR, 0, upperAddress);

  file.define64(Reg.IQH, 0, 0);
  if (behaviour.tailChecked) file.defineOpen64(Reg.IQT);
  else file.define64(Reg.IQT, 0, 0, 0, 0x7_fff0);
  const widthKept = caps.scalable || behaviour.queueAddressLatched;
  file.define64(Reg.IQA, 0, 0, -1, widthKept ? ~0x7f8 : ~0xff8);
  file.define32(Reg.ICS, 0, 0, 1);
  file.define32(Reg.IECTL, MASKED, MASKED);
  file.define32(Reg.IEDATA, 0, behaviour.wideCompletionData ? -1 : MESSAGE_DATA);
  file.define32(Reg.IEADDR, 0, MESSAGE_ADDRESS);
  file.define32(Reg.IEUADDR, 0, upperAddress);
  file.define64(Reg.IQERCD, 0, 0);
  const extended = caps.extendedInterruptMode || behaviour.extendedInterruptsAlways;
  file.define64(Reg.IRTA, 0, 0, -1, extended ? ~0x7f0 : ~0xff0);

  if (caps.pageRequests) {
    file.define64(Reg.PQH, 0, 0, 0, PAGE_QUEUE_OFFSET_MASK);
    file.define64(Reg.PQT, 0, 0, 0, PAGE_QUEUE_OFFSET_MASK);
    file.define64(Reg.PQA, 0, 0, -1, ~0xff8);
    file.define32(Reg.PRS, 0, 0, Prs.PPR | Prs.PRO);
    file.define32(Reg.PECTL, MASKED, MASKED);
    file.define32(Reg.PEDATA, 0, MESSAGE_DATA);
    file.define32(Reg.PEADDR, 0, MESSAGE_ADDRESS);
    file.define32(Reg.PEUADDR, 0, upperAddress);
  }

  for (let record = 0; record < caps.faultRecords; record++) {
    file.define32(caps.faultRecordBase + record * 16 + 12, 0, 0, MASKED);
  }
  if (caps.virtualCommands) {
    file.define64(vcmd.VCCAP, 0, VCCAP_PAS);
    file.defineOpen64(vcmd.VCMD_EO);
    file.define64(vcmd.VCMD, 0, 0);
    file.define64(vcmd.VCRSP, 0, 0);
  }
  file.reset();
  return file;
}

/** Whether a 64-bit register starts at this offset, so that an 8-byte access of it acts once. */
export function isWideRegister(offset: number, caps: Capabilities, vcmd: VirtualCommandLayout): boolean {
  switch (offset) {
    case Reg.CAP:
    case Reg.ECAP:
    case Reg.RTADDR:
    case Reg.CCMD:
    case Reg.IQH:
    case Reg.IQT:
    case Reg.IQA:
    case Reg.IQERCD:
    case Reg.IRTA:
    case Reg.PQH:
    case Reg.PQT:
    case Reg.PQA:
      return true;
    default:
      return (
        offset === caps.iotlbBase || offset === caps.iotlbBase + 8 || (caps.virtualCommands && offset === vcmd.VCMD)
      );
  }
}

/** GCMD bits that this unit obeys. */
export function supportedCommands(caps: Capabilities, behaviour: Behaviour): number {
  let commands = GlobalCommand.TE | GlobalCommand.SRTP | GlobalCommand.QIE;
  if (caps.interruptRemapping || behaviour.interruptCommandsAlways) commands |= GlobalCommand.IRE | GlobalCommand.SIRTP;
  if (caps.interruptRemapping && behaviour.compatibilityFormat) commands |= GlobalCommand.CFI;
  return commands;
}
