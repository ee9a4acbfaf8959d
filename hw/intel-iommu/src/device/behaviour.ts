/**
 * Where QEMU 10.2 departs from the specification (vtd.md section 12). This object is the complete list: the rest of the model asks
 * it and never asks which profile it plays.
 */
import { Fault, Fsts } from '../spec/index.js';

/** Reasons for which QEMU answers a translation request that grants nothing, instead of failing it. */
const QEMU_RECOVERABLE: ReadonlySet<number> = new Set([
  ...[Fault.LGN_2, Fault.LGN_3, Fault.SPD_2, Fault.SPT_2],
  ...[Fault.SFS_1, Fault.SFS_2, Fault.SFS_3, Fault.SFS_4],
  ...[Fault.SGN_1, Fault.SGN_2, Fault.SGN_6],
]);
/** By the same logic, for the second stage and for executing. UNCONFIRMED. */
const ALIKE: readonly number[] = [Fault.SSS_2, Fault.SGN_3, Fault.SGN_5, Fault.SGN_7];
/** The interrupt range, and privileged requests that are not enabled, grant nothing (vtd.md 4.9). */
const NOTHING_GRANTED: readonly number[] = [Fault.LGN_4, Fault.SGN_8, Fault.SPT_6];

/** The reasons that a second-stage walk reports. */
export interface SecondStageFaults {
  readonly width: number;
  readonly rootAccess: number;
  readonly access: number;
  readonly reserved: number;
  readonly notPresentRead: number;
  readonly notPresentWrite: number;
  readonly read: number;
  readonly write: number;
  /** The result lies in the interrupt range. */
  readonly interruptRange: number;
}

export const LEGACY_SECOND_STAGE: SecondStageFaults = {
  width: Fault.LGN_1,
  rootAccess: Fault.LCT_4,
  access: Fault.LSS_1,
  reserved: Fault.LSS_2,
  notPresentRead: Fault.LGN_3,
  notPresentWrite: Fault.LGN_2,
  read: Fault.LGN_3,
  write: Fault.LGN_2,
  interruptRange: Fault.LGN_4,
};

export const SCALABLE_SECOND_STAGE: SecondStageFaults = {
  width: Fault.SGN_5,
  rootAccess: Fault.SSS_4,
  access: Fault.SSS_1,
  reserved: Fault.SSS_3,
  notPresentRead: Fault.SSS_2,
  notPresentWrite: Fault.SSS_2,
  read: Fault.SGN_7,
  write: Fault.SGN_6,
  interruptRange: Fault.SGN_8,
};

/** The reasons that root and context lookup in scalable mode reports. */
export interface ScalableLookupFaults {
  readonly rootAccess: number;
  readonly rootNotPresent: number;
  readonly rootReserved: number;
  readonly contextAccess: number;
  readonly contextNotPresent: number;
  readonly contextReserved: number;
}

export interface Behaviour {
  /** Bytes of the window; accesses beyond it read as all ones. */
  readonly windowBytes: number;
  /** A fault of a source that has a pending record is dropped. */
  readonly compressFaultsBySource: boolean;
  /**
   * PP and PV of a fault in a page-table walk describe the PASID that was looked up, also when the request had none; PV is 0xFFFF in
   * legacy mode. Faults of the lookup itself have neither.
   */
  readonly recordLookupPasid: boolean;
  /** FSTS bits that software clears by writing 1. */
  readonly clearableFaultStatus: number;
  /** IQERCD tells why the queue stopped. */
  readonly queueErrorRecord: boolean;
  /** Clearing IQE resumes the queue; otherwise only a write of IQT does. */
  readonly clearingErrorResumesQueue: boolean;
  /** Clearing the last F of a record clears a pending fault event; otherwise only a write of FSTS does. */
  readonly recordClearEndsEvent: boolean;
  /**
   * IQA shows the address that was latched when the queue was enabled last (at first 0), beside QS and DW as they were written; DW is kept
   * where scalable mode is not offered, too, without effect.
   */
  readonly queueAddressLatched: boolean;
  /** IQT keeps and checks reserved bits; otherwise they are ignored. */
  readonly tailChecked: boolean;
  /**
   * Width of the queue and mode of the root table are checked against each other, and against the descriptor's type; otherwise only
   * descriptors with a PASID need a 256-bit queue.
   */
  readonly queueModeChecked: boolean;
  /** A queue that is not empty, or whose last descriptor was no wait, cannot be disabled. */
  readonly queueDisableNeedsWait: boolean;
  /** A misaligned tail of a 256-bit queue stops the queue where it is; the tail before stays in force. */
  readonly misalignedTailIgnored: boolean;
  /** A paging entry of all ones counts as one that cannot be read. */
  readonly allOnesUnreadable: boolean;
  /** A wait descriptor that asks for nothing is an error. */
  readonly emptyWaitFails: boolean;
  /** CCMD and IOTLB are completed (as not performed) while the queue is enabled; otherwise they stay busy. */
  readonly registerCommandsComplete: boolean;
  /** A page-selective PASID-IOTLB invalidation obeys CAP.MAMV. */
  readonly pasidAddressMaskLimited: boolean;
  /** A domain-selective context invalidation is performed as global; CCMD reports that. */
  readonly contextDomainIsGlobal: boolean;
  /** One-shot global commands act before level ones. */
  readonly oneShotsFirst: boolean;
  /** SIRTP and IRE act although ECAP.IR is 0. */
  readonly interruptCommandsAlways: boolean;
  /** A change of TE flushes all caches. */
  readonly translationChangeFlushes: boolean;
  /** CFI is implemented. */
  readonly compatibilityFormat: boolean;
  /** Interrupts in compatibility format pass, whatever CFI and EIME say. */
  readonly compatibilityAlwaysPasses: boolean;
  /** EIME of IRTA counts although ECAP.EIM is 0. */
  readonly extendedInterruptsAlways: boolean;
  /** Handle and subhandle are added in 16 bits; otherwise a larger sum is an index beyond every table. */
  readonly interruptIndexWraps: boolean;
  /** IRTEs are cached; otherwise they are read for each interrupt. */
  readonly interruptEntriesCached: boolean;
  /**
   * Reserved values of an IRTE's delivery mode and source validation type, and what 8-bit destinations leave of the destination
   * field, are reserved bits. Otherwise they do not matter, except that no source passes the reserved validation type.
   */
  readonly interruptEncodingsChecked: boolean;
  /** IRTEs in posted format are taken as ones in remapped format. */
  readonly postedAsRemapped: boolean;
  /** The source id of a bus range has the last bus in its high byte. */
  readonly interruptBusesSwapped: boolean;
  /** Requests of requester FF:1F.7 are those whose requester nobody knows (an I/O APIC's), and pass source validation. */
  readonly unknownSourceTrusted: boolean;
  /** A remapped message has the assert bit also when it is edge triggered. */
  readonly messagesAlwaysAssert: boolean;
  /** FEUADDR and IEUADDR are writable with ECAP.EIM. */
  readonly upperMessageAddress: boolean;
  /** IEDATA keeps 32 bits; otherwise, as the other message data registers, 16. */
  readonly wideCompletionData: boolean;
  /** Bits of RTADDR, IQA and IRTA from the host address width up are left out when the address is latched. */
  readonly pointersTruncated: boolean;
  /** Only bit 10 of RTADDR selects the mode. */
  readonly modeFromOneBit: boolean;
  /** A context entry's reserved bits are a qualified fault. */
  readonly contextReservedQualified: boolean;
  /** A pass-through context entry names the largest width; otherwise any supported one. */
  readonly passThroughWidthExact: boolean;
  /**
   * A requester that passes through is taken out of translation until the next look at its entries (see PassingRequesters), and the width
   * of its addresses is not checked; otherwise its entries are looked up for each request, as they are cached.
   */
  readonly passThroughLatched: boolean;
  /** A pass-through context entry's second-stage pointer has to fit the host address width; otherwise it is ignored. */
  readonly passThroughPointerChecked: boolean;
  /** Reserved bits of either half of a scalable-mode root entry refuse requests of both. */
  readonly rootHalvesCheckedTogether: boolean;
  /** FPD bits of the PASID directory and entry count for faults of the PASID lookup itself. */
  readonly lookupFpd: boolean;
  /**
   * Once a context entry is cached, P of PASID entries does not count, and with FPD of the context entry or of the PASID directory neither
   * does their PGTT, nor what a cached translation does not need: they are used by the stage that the unit offers. If there is no entry,
   * requests are refused without a record.
   */
  readonly pasidEntriesTrusted: boolean;
  /** DTE, PASIDE, PRE, RID_PASID and RID_PRIV of a context entry are never reserved; RID_PASID is honoured. */
  readonly contextFieldsAlways: boolean;
  /** PASIDE and the size of the directory limit PASIDs. */
  readonly pasidLimits: boolean;
  /** Reserved bits of PASID directory and PASID table entries are checked; and P comes before PGTT. */
  readonly pasidReservedChecked: boolean;
  /** Every request counts as a user-mode read or write: SRE, WPE and XD are ignored. */
  readonly everyRequestIsUser: boolean;
  /** Second-stage leaves may have SNP where scalable mode is offered, and bit 62 (once: transient mapping) where device TLBs are. */
  readonly lenientLeaves: boolean;
  /** Second-stage permissions are checked at each level, before reserved bits. */
  readonly earlyPermission: boolean;
  /** The answer to a request without PASID may be a large page around the interrupt range, where such requests are not translated. */
  readonly answersSpanInterrupts: boolean;
  /** A page whose range merely overlaps the interrupt range faults. */
  readonly interruptRangeByPage: boolean;
  /** AW of a PASID entry, and the host address width, limit the input of the first stage, too: canonical addresses of that width pass. */
  readonly firstStageWidthLimited: boolean;
  /** First-stage D is set also when A was set before. */
  readonly dirtyAfterAccessed: boolean;
  /** First-stage A and D are updated although the walk is not snooped. */
  readonly updateUnsnooped: boolean;
  /** PASID entries are cached; otherwise they are read for each request. */
  readonly pasidsCached: boolean;
  /** A context entry is not cached when the PASID entry that it leads to is not in order. */
  readonly contextNeedsPasid: boolean;
  /** Non-leaf paging entries are cached; otherwise each walk starts at the root. */
  readonly pagingStructuresCached: boolean;
  /** In caching mode entries that are not present or not in order are cached, of all tables but first-stage ones. */
  readonly faultsCached: boolean;
  /**
   * 0: translations are cached by domain and PASID. Otherwise by requester (see RequesterIotlb), at most this many; they are found
   * without a look at the context entry in legacy mode.
   */
  readonly requesterTranslations: number;
  /** A device-selective context invalidation compares the domain. */
  readonly contextDomainCompared: boolean;
  /** A cached translation answers also what it does not permit, without a fault. */
  readonly hitsIgnorePermission: boolean;
  /** The answer to a read never grants writing. */
  readonly readHidesWrite: boolean;
  /** A unit that offers scalable mode reports an output in the interrupt range with scalable mode's reason in legacy mode, too. */
  readonly interruptReasonByCapability: boolean;
  /** A read in the interrupt range, without PASID, finds zeros; otherwise it is refused. */
  readonly interruptRangeReadsZero: boolean;
  /** Reasons for which a translation request is answered, with nothing granted and nothing recorded. */
  readonly recoverable: ReadonlySet<number>;
  /** The context entry decides about translated requests; otherwise those without PASID pass, and no others. */
  readonly translatedChecked: boolean;
  /** Device-TLB invalidations are waited for, and time out; otherwise each is done when it has been sent. */
  readonly deviceTlbAwaited: boolean;
  readonly scalableSecondStage: SecondStageFaults;
  readonly scalableLookup: ScalableLookupFaults;
}

/** The specification. */
export const SPECIFICATION: Behaviour = {
  windowBytes: 0x1000,
  compressFaultsBySource: false,
  recordLookupPasid: false,
  clearableFaultStatus: Fsts.PFO | Fsts.IQE | Fsts.ICE | Fsts.ITE,
  queueErrorRecord: true,
  clearingErrorResumesQueue: true,
  recordClearEndsEvent: true,
  queueAddressLatched: false,
  tailChecked: true,
  queueModeChecked: true,
  queueDisableNeedsWait: false,
  misalignedTailIgnored: false,
  allOnesUnreadable: false,
  emptyWaitFails: false,
  registerCommandsComplete: true,
  pasidAddressMaskLimited: false,
  contextDomainIsGlobal: false,
  oneShotsFirst: true,
  interruptCommandsAlways: false,
  translationChangeFlushes: false,
  compatibilityFormat: true,
  compatibilityAlwaysPasses: false,
  extendedInterruptsAlways: false,
  interruptIndexWraps: false,
  interruptEntriesCached: true,
  interruptEncodingsChecked: true,
  postedAsRemapped: false,
  interruptBusesSwapped: false,
  unknownSourceTrusted: false,
  messagesAlwaysAssert: false,
  upperMessageAddress: true,
  wideCompletionData: false,
  pointersTruncated: false,
  modeFromOneBit: false,
  contextReservedQualified: true,
  passThroughWidthExact: true,
  passThroughLatched: false,
  passThroughPointerChecked: false,
  rootHalvesCheckedTogether: false,
  lookupFpd: true,
  pasidEntriesTrusted: false,
  contextFieldsAlways: false,
  pasidLimits: true,
  pasidReservedChecked: true,
  everyRequestIsUser: false,
  lenientLeaves: false,
  earlyPermission: false,
  answersSpanInterrupts: false,
  interruptRangeByPage: false,
  firstStageWidthLimited: false,
  dirtyAfterAccessed: true,
  updateUnsnooped: false,
  pasidsCached: true,
  contextNeedsPasid: false,
  pagingStructuresCached: true,
  faultsCached: true,
  requesterTranslations: 0,
  contextDomainCompared: true,
  hitsIgnorePermission: false,
  readHidesWrite: false,
  interruptReasonByCapability: false,
  interruptRangeReadsZero: false,
  recoverable: new Set([...QEMU_RECOVERABLE, ...ALIKE, ...NOTHING_GRANTED]),
  translatedChecked: true,
  deviceTlbAwaited: true,
  scalableSecondStage: SCALABLE_SECOND_STAGE,
  scalableLookup: {
    rootAccess: Fault.SRT_1,
    rootNotPresent: Fault.SRT_2,
    rootReserved: Fault.SRT_3,
    contextAccess: Fault.SCT_1,
    contextNotPresent: Fault.SCT_2,
    contextReserved: Fault.SCT_3,
  },
};

/** `compat=qemu-10.2`. */
export const QEMU_10_2: Behaviour = {
  windowBytes: 0x230,
  compressFaultsBySource: true,
  recordLookupPasid: true,
  clearableFaultStatus: Fsts.PFO | Fsts.IQE,
  queueErrorRecord: false,
  clearingErrorResumesQueue: false,
  recordClearEndsEvent: false,
  queueAddressLatched: true,
  tailChecked: false,
  queueModeChecked: false,
  queueDisableNeedsWait: true,
  misalignedTailIgnored: true,
  allOnesUnreadable: true,
  emptyWaitFails: true,
  registerCommandsComplete: false,
  pasidAddressMaskLimited: true,
  contextDomainIsGlobal: true,
  oneShotsFirst: false,
  interruptCommandsAlways: true,
  translationChangeFlushes: true,
  compatibilityFormat: false,
  compatibilityAlwaysPasses: true,
  extendedInterruptsAlways: true,
  interruptIndexWraps: true,
  interruptEntriesCached: false,
  interruptEncodingsChecked: false,
  postedAsRemapped: true,
  interruptBusesSwapped: true,
  unknownSourceTrusted: true,
  messagesAlwaysAssert: true,
  upperMessageAddress: false,
  wideCompletionData: true,
  pointersTruncated: true,
  modeFromOneBit: true,
  contextReservedQualified: false,
  passThroughWidthExact: false,
  passThroughLatched: true,
  passThroughPointerChecked: true,
  rootHalvesCheckedTogether: true,
  lookupFpd: false,
  pasidEntriesTrusted: true,
  contextFieldsAlways: true,
  pasidLimits: false,
  pasidReservedChecked: false,
  everyRequestIsUser: true,
  lenientLeaves: true,
  earlyPermission: true,
  answersSpanInterrupts: true,
  interruptRangeByPage: true,
  firstStageWidthLimited: true,
  dirtyAfterAccessed: false,
  updateUnsnooped: true,
  pasidsCached: false,
  contextNeedsPasid: true,
  pagingStructuresCached: false,
  faultsCached: false,
  requesterTranslations: 1024,
  contextDomainCompared: false,
  hitsIgnorePermission: true,
  readHidesWrite: true,
  interruptReasonByCapability: true,
  interruptRangeReadsZero: true,
  recoverable: QEMU_RECOVERABLE,
  translatedChecked: false,
  deviceTlbAwaited: false,
  scalableSecondStage: { ...LEGACY_SECOND_STAGE, interruptRange: Fault.SGN_8 },
  scalableLookup: {
    rootAccess: Fault.LRT_1,
    rootNotPresent: Fault.LRT_2,
    rootReserved: Fault.LRT_3,
    contextAccess: Fault.LCT_1,
    contextNotPresent: Fault.LCT_2,
    contextReserved: Fault.LCT_3,
  },
};
