/**
 * What the oracle knows of a unit: CAP and ECAP as software reads them. Deliberately without the model's declarations: bit positions
 * are those of vtd.md section 2, written down a second time.
 */
export interface Facts {
  readonly mgaw: number;
  /** Host address width. */
  readonly haw: number;
  /** Supported second-stage AW values. */
  readonly widths: readonly number[];
  readonly maxAddressMask: number;
  readonly zeroLengthRead: boolean;
  readonly faultRecords: number;
  readonly cachingMode: boolean;
  readonly firstStage1GiB: boolean;
  readonly firstStage5Level: boolean;
  readonly deviceTlb: boolean;
  readonly interruptRemapping: boolean;
  readonly pageRequests: boolean;
  readonly executeRequests: boolean;
  /** Translation requests may say that they will not write. */
  readonly noWriteFlag: boolean;
  readonly maxHandleMask: number;
  readonly passThrough: boolean;
  readonly snoopControl: boolean;
  readonly nesting: boolean;
  readonly supervisorRequests: boolean;
  readonly extendedAccessed: boolean;
  readonly pasids: boolean;
  readonly scalable: boolean;
  readonly secondStageAccessedDirty: boolean;
  readonly secondStage: boolean;
  readonly firstStage: boolean;
  readonly pageWalkSnoop: boolean;
  readonly ridPasid: boolean;
}

export function factsOf(cap: bigint, ecap: bigint): Facts {
  const bit = (register: bigint, position: number): boolean => ((register >> BigInt(position)) & 1n) === 1n;
  const field = (register: bigint, msb: number, lsb: number): number =>
    Number(BigInt.asUintN(msb - lsb + 1, register >> BigInt(lsb)));
  const mgaw = field(cap, 21, 16) + 1;
  return {
    mgaw,
    haw: Math.min(mgaw, 52),
    widths: [1, 2, 3].filter(aw => bit(cap, 8 + aw)),
    maxAddressMask: field(cap, 53, 48),
    zeroLengthRead: bit(cap, 22),
    faultRecords: field(cap, 47, 40) + 1,
    cachingMode: bit(cap, 7),
    firstStage1GiB: bit(cap, 56),
    firstStage5Level: bit(cap, 60),
    deviceTlb: bit(ecap, 2),
    interruptRemapping: bit(ecap, 3),
    pageRequests: bit(ecap, 29),
    executeRequests: bit(ecap, 30),
    noWriteFlag: bit(ecap, 33),
    maxHandleMask: field(ecap, 23, 20),
    passThrough: bit(ecap, 6),
    snoopControl: bit(ecap, 7),
    nesting: bit(ecap, 26),
    supervisorRequests: bit(ecap, 31),
    extendedAccessed: bit(ecap, 34),
    pasids: bit(ecap, 40),
    scalable: bit(ecap, 43),
    secondStageAccessedDirty: bit(ecap, 45),
    secondStage: bit(ecap, 46),
    firstStage: bit(ecap, 47),
    pageWalkSnoop: bit(ecap, 48),
    ridPasid: bit(ecap, 49),
  };
}
