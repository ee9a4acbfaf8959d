import { capabilityRegister, extendedCapabilityRegister, type VtdConfig } from '../config/index.js';
import { Cap, Ecap, widthOfLevels } from '../spec/index.js';

/** VT-d physical addresses end here, whatever the input width. */
const MAX_HOST_WIDTH = 52;

/** What CAP and ECAP say, decoded once: the model reads these fields and never the registers. */
export class Capabilities {
  readonly capLo: number;
  readonly capHi: number;
  readonly ecapLo: number;
  readonly ecapHi: number;

  /** Supported second-stage levels: bit n for n levels. */
  readonly secondStageLevels: number;
  /** Most levels of a second stage. */
  readonly maxLevels: number;
  /** Maximum guest address width in bits. */
  readonly mgaw: number;
  /** Host address width in bits. */
  readonly haw: number;
  readonly faultRecords: number;
  readonly faultRecordBase: number;
  readonly iotlbBase: number;
  readonly maxAddressMask: number;
  readonly pageSelective: boolean;
  /** Supported second-stage large pages: bit 2 for level 2 (2 MiB), bit 3 for level 3 (1 GiB). */
  readonly largePageLevels: number;
  readonly zeroLengthRead: boolean;
  readonly firstStage1GiB: boolean;
  readonly firstStage5Level: boolean;
  readonly srtpFlushes: boolean;
  readonly cachingMode: boolean;
  readonly postedInterrupts: boolean;

  readonly deviceTlb: boolean;
  readonly interruptRemapping: boolean;
  readonly extendedInterruptMode: boolean;
  readonly maxHandleMask: number;
  readonly passThrough: boolean;
  readonly snoopControl: boolean;
  readonly memoryTypes: boolean;
  readonly nesting: boolean;
  readonly pageRequests: boolean;
  readonly supervisorRequests: boolean;
  readonly extendedAccessed: boolean;
  readonly pasids: boolean;
  readonly invalidationThrottle: boolean;
  readonly pageRequestDrain: boolean;
  readonly executeRequests: boolean;
  /** Translation requests may say that the device will not write. */
  readonly noWriteFlag: boolean;
  readonly scalable: boolean;
  readonly virtualCommands: boolean;
  readonly secondStageAccessedDirty: boolean;
  readonly secondStage: boolean;
  readonly firstStage: boolean;
  readonly pageWalkSnoop: boolean;
  readonly ridPasid: boolean;
  readonly ridPriv: boolean;
  readonly abortMode: boolean;

  constructor(config: VtdConfig) {
    const cap = capabilityRegister(config);
    const ecap = extendedCapabilityRegister(config);
    this.capLo = cap[0]!;
    this.capHi = cap[1]!;
    this.ecapLo = ecap[0]!;
    this.ecapHi = ecap[1]!;

    const c = Cap.decode(cap);
    const widths = Number(c.sagaw);
    // SAGAW bit 1 (39 bits) is three levels.
    this.secondStageLevels = widths << 2;
    this.maxLevels = 31 - Math.clz32(this.secondStageLevels);
    this.mgaw = Number(c.mgaw) + 1;
    this.haw = Math.min(this.mgaw, MAX_HOST_WIDTH);
    this.faultRecords = Number(c.nfr) + 1;
    this.faultRecordBase = Number(c.fro) * 16;
    this.maxAddressMask = Number(c.mamv);
    this.pageSelective = c.psi === 1;
    this.largePageLevels = Number(c.sslps) << 2;
    this.zeroLengthRead = c.zlr === 1;
    this.firstStage1GiB = c.fs1gp === 1;
    this.firstStage5Level = c.fs5lp === 1;
    this.srtpFlushes = c.esrtps === 1;
    this.cachingMode = c.cm === 1;
    this.postedInterrupts = c.pi === 1;

    const e = Ecap.decode(ecap);
    this.iotlbBase = Number(e.iro) * 16;
    this.deviceTlb = e.dt === 1;
    this.interruptRemapping = e.ir === 1;
    this.extendedInterruptMode = e.eim === 1;
    this.maxHandleMask = Number(e.mhmv);
    this.passThrough = e.pt === 1;
    this.snoopControl = e.sc === 1;
    this.memoryTypes = e.mts === 1;
    this.nesting = e.nest === 1;
    this.pageRequests = e.prs === 1;
    this.supervisorRequests = e.srs === 1;
    this.extendedAccessed = e.eafs === 1;
    this.pasids = e.pasid === 1;
    this.invalidationThrottle = e.dit === 1;
    this.pageRequestDrain = e.pds === 1;
    this.noWriteFlag = e.nwfs === 1;
    this.executeRequests = e.ers === 1;
    this.scalable = e.smts === 1;
    this.virtualCommands = e.vcs === 1;
    this.secondStageAccessedDirty = e.ssads === 1;
    this.secondStage = e.ssts === 1;
    this.firstStage = e.fsts === 1;
    this.pageWalkSnoop = e.smpwcs === 1;
    this.ridPasid = e.rps === 1;
    this.ridPriv = e.rprivs === 1;
    this.abortMode = e.adms === 1;
  }

  /** Whether an AW field names a second-stage width that CAP.SAGAW offers. */
  supportsWidth(aw: number): boolean {
    return aw >= 1 && aw <= 3 && (this.secondStageLevels & (1 << (aw + 2))) !== 0;
  }

  /** Input width in bits of a second stage of `levels` levels. */
  inputWidth(levels: number): number {
    return Math.min(this.mgaw, widthOfLevels(levels));
  }
}
