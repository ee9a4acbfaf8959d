/** What a C compiler says about the structures, as the probe prints it and as the fixtures keep it. */

/** RFC v3.1 and the VMID series; linux/vfio.h; linux/iommufd.h and what linux/vfio.h says of devices that are bound to an iommufd. */
export type Origin = (typeof ORIGINS)[number];
export const ORIGINS = ['rfc', 'linux', 'iommufd'] as const;
/** Offset and size, in bytes. */
export type Place = readonly [offset: number, size: number];

export interface Sample {
  /** Hexadecimal. */
  readonly bytes: string;
  /** By path, in hexadecimal. */
  readonly values: Record<string, string>;
}

export interface StructFacts {
  readonly origin: Origin;
  readonly size: number;
  readonly align: number;
  readonly fields: Record<string, Place>;
  readonly samples: Sample[];
}

/** An ioctl with an argument that a kernel accepts. */
export interface IoctlFacts {
  readonly origin: Origin;
  readonly name: string;
  readonly case: string;
  readonly request: number;
  readonly bytes: string;
  readonly fields: Record<string, Place>;
}

export interface Facts {
  /** Version of the kernel's headers: `6.1`; undefined if only the rendering of the RFC was compiled. */
  readonly kernelHeaders?: string | undefined;
  /** Version of the kernel's headers that have iommufd; undefined if they are older: then the rendering of it was compiled. */
  readonly iommufdHeaders?: string | undefined;
  readonly structs: Record<string, StructFacts>;
  readonly constants: Record<Origin, Record<string, number>>;
  readonly ioctls: IoctlFacts[];
}

/** The host's C compiler lays structures out in another way than the hosts that Remora speaks to. */
export class ForeignAbi extends Error {
  override readonly name = 'ForeignAbi';
}

/**
 * Reads the output of the probe; its own comment has the grammar.
 * @throws ForeignAbi unless the host is LP64 and little-endian; Error if a line is not of the grammar.
 */
export function parseFacts(text: string): Facts {
  const structs: Record<string, StructFacts> = {};
  const constants: Record<Origin, Record<string, number>> = { rfc: {}, linux: {}, iommufd: {} };
  const ioctls: IoctlFacts[] = [];
  let kernelHeaders: string | undefined;
  let iommufdHeaders: string | undefined;
  let struct: StructFacts | undefined;
  for (const line of text.split('\n').filter(one => one !== '')) {
    const [kind, ...words] = line.split(' ');
    const malformed = (): never => {
      throw new Error(`the probe printed a line that makes no sense: ${line}`);
    };
    const word = (index: number): string => words[index] ?? malformed();
    const count = (index: number): number => {
      const value = Number(word(index));
      return Number.isSafeInteger(value) ? value : malformed();
    };
    const origin = (): Origin => ORIGINS.find(known => known === word(0)) ?? malformed();
    const current = (): StructFacts => struct ?? malformed();
    switch (kind) {
      case 'abi':
        if (line !== 'abi 8 8 little') throw new ForeignAbi(`this host is not LP64 and little-endian (${line})`);
        break;
      case 'headers':
        kernelHeaders = word(0);
        break;
      case 'iommufd':
        iommufdHeaders = word(0);
        break;
      case 'struct':
        struct = { origin: origin(), size: count(2), align: count(3), fields: {}, samples: [] };
        structs[word(1)] = struct;
        break;
      case 'field':
        current().fields[word(0)] = [count(1), count(2)];
        break;
      case 'sample':
        current().samples.push({ bytes: word(0), values: {} });
        break;
      case 'value':
        (current().samples.at(-1) ?? malformed()).values[word(0)] = word(1);
        break;
      case 'constant':
        constants[origin()][word(1)] = count(2);
        break;
      case 'ioctl':
        ioctls.push({ origin: origin(), name: word(1), case: word(2), request: count(3), bytes: word(4), fields: {} });
        break;
      case 'member':
        (ioctls.at(-1) ?? malformed()).fields[word(0)] = [count(1), count(2)];
        break;
      default:
        malformed();
    }
  }
  return { kernelHeaders, iommufdHeaders, structs, constants, ioctls };
}
