/** Data structures of Identify (NVMe 1.4, 5.15): which there are, and where their fields are, in bytes. */

/** CNS: what is to be returned. */
export const Cns = {
  NAMESPACE: 0x00,
  CONTROLLER: 0x01,
  ACTIVE_NAMESPACES: 0x02,
  NAMESPACE_DESCRIPTORS: 0x03,
  SET_NAMESPACE: 0x05,
  SET_CONTROLLER: 0x06,
  SET_ACTIVE_NAMESPACES: 0x07,
  COMMAND_SETS: 0x1c,
} as const;

export const IDENTIFY_BYTES = 4096;

/** CSI: the NVM command set. */
export const NVM_COMMAND_SET = 0;

export const IdController = {
  VID: 0,
  SSVID: 2,
  SN: 4,
  MN: 24,
  FR: 64,
  RAB: 72,
  IEEE: 73,
  MDTS: 77,
  CNTLID: 78,
  VER: 80,
  OAES: 92,
  CTRATT: 96,
  CNTRLTYPE: 111,
  OACS: 256,
  ACL: 258,
  AERL: 259,
  FRMW: 260,
  LPA: 261,
  ELPE: 262,
  NPSS: 263,
  WCTEMP: 266,
  CCTEMP: 268,
  SQES: 512,
  CQES: 513,
  NN: 516,
  ONCS: 520,
  FNA: 524,
  VWC: 525,
  SUBNQN: 768,
  PSD0: 2048,
} as const;

export const SERIAL_BYTES = 20;
export const MODEL_BYTES = 40;
export const FIRMWARE_BYTES = 8;
export const SUBNQN_BYTES = 256;

export const IdNamespace = {
  NSZE: 0,
  NCAP: 8,
  NUSE: 16,
  NSFEAT: 24,
  NLBAF: 25,
  FLBAS: 26,
  DLFEAT: 33,
  NVMCAP: 48,
  NSATTR: 99,
  LBAF0: 128,
} as const;

/** Of the NVM command set: limits of Verify and Write Zeroes, as MDTS is one. */
export const IdNvmController = { VSL: 0, WZSL: 1 } as const;

/** Namespace identification descriptors (5.15.2.3). */
export const NamespaceIdType = { UUID: 3, COMMAND_SET: 4 } as const;

/** LBA formats: log2 of the block size each. Formats have no metadata. */
export const LBA_SHIFTS: readonly number[] = [9, 12];

/** Bits of IdController's fields. */
export const Oaes = { NAMESPACE_ATTRIBUTES: 0x100 } as const;
export const Ctratt = { HOST_ID_128: 0x1 } as const;
export const Oacs = { FORMAT: 0x2 } as const;
export const Lpa = { SMART_PER_NAMESPACE: 0x1, EFFECTS: 0x2, EXTENDED: 0x4 } as const;
export const Oncs = {
  COMPARE: 0x01,
  DATASET_MANAGEMENT: 0x04,
  WRITE_ZEROES: 0x08,
  SELECT: 0x10,
  TIMESTAMP: 0x40,
  VERIFY: 0x80,
} as const;
/** A volatile write cache, which Flush with all namespaces empties, too. */
export const VWC_PRESENT = 0x7;
export const IO_CONTROLLER = 1;
/** Slot 1 is there, and read-only. */
export const FRMW_ONE_READ_ONLY_SLOT = 0x3;

/** DLFEAT: deallocated blocks read as zeroes, and Write Zeroes may deallocate. */
export const DLFEAT_ZEROES = 0x9;
/** NSATTR: write protected. */
export const NSATTR_PROTECTED = 0x1;
/** Model, and revision of the firmware. */
export const MODEL = 'Remora NVMe Ctrl';
export const FIRMWARE = '1.0';
/** In kelvin. */
export const TEMPERATURE = 323;
export const WARNING_TEMPERATURE = 343;
export const CRITICAL_TEMPERATURE = 373;
