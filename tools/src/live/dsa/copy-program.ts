/**
 * A program for a live guest: puts its standard input out twice, and has the accelerator copy it each time. It binds its own address space
 * to the device by opening the work queue, and stores descriptors whose addresses are its own. Between the two copies it has other pages
 * mapped to the target's addresses: the second copy must find those. Its exit status is sixteen times that of the first completion record,
 * and that of the second. There is no compiler where it is needed: it is put together here, instruction by instruction (Intel SDM volume 2).
 */
import { Descriptor, Flag, Operation } from '@hw/dsa';

/** Bytes that it copies; its input must have as many. */
export const COPY_BYTES = 0x1_0000;

const BASE = 0x40_0000;
const HEADERS = 64 + 56;
const PATH_AT = HEADERS;
const PATH_ROOM = 24;
const CODE_AT = PATH_AT + PATH_ROOM;
const PAGE = 0x1000;
/** Each begins a page. Only the source is touched before the device needs it. */
const RECORD = BASE + PAGE;
const SECOND_RECORD = RECORD + 64;
const SOURCE = RECORD + PAGE;
const TARGET = SOURCE + COPY_BYTES;
const END = TARGET + COPY_BYTES;
const TARGET_PAGES = Array.from({ length: COPY_BYTES / PAGE }, (_, page) => TARGET + page * PAGE);

/** Linux system calls and their constants, for x86-64. */
const Call = { READ: 0, WRITE: 1, OPEN: 2, MMAP: 9, EXIT: 60 } as const;
const O_RDWR = 2;
const PROT_WRITE = 2;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE_FIXED_ANONYMOUS = 0x32;
const STDIN = 0;
const STDOUT = 1;

/** `MOV r64, imm32`, sign-extended. */
const MOV = {
  rax: [0x48, 0xc7, 0xc0],
  rdi: [0x48, 0xc7, 0xc7],
  rsi: [0x48, 0xc7, 0xc6],
  rdx: [0x48, 0xc7, 0xc2],
  r10: [0x49, 0xc7, 0xc2],
  r8: [0x49, 0xc7, 0xc0],
  r9: [0x49, 0xc7, 0xc1],
} as const;
const SYSCALL = [0x0f, 0x05];
/** `MOV r8, rax` and `MOV rbx, rax`. */
const R8_FROM_RAX = [0x49, 0x89, 0xc0];
const RBX_FROM_RAX = [0x48, 0x89, 0xc3];
/** `PAUSE; MOV al, [rsi]; TEST al, al; JZ` back to the PAUSE. */
const WAIT_FOR_BYTE = [0xf3, 0x90, 0x8a, 0x06, 0x84, 0xc0, 0x74, 0xf8];
/** `MOVZX edi, BYTE PTR [imm32]`, and the same for eax; `SHL edi, 4`; `OR edi, eax`. */
const EDI_FROM_BYTE = [0x0f, 0xb6, 0x3c, 0x25];
const EAX_FROM_BYTE = [0x0f, 0xb6, 0x04, 0x25];
const EDI_TIMES_16 = [0xc1, 0xe7, 0x04];
const EDI_OR_EAX = [0x09, 0xc7];
/** `MOV BYTE PTR [imm32], 0`: the last one of a page, where no record is. */
const CLEAR_LAST_BYTE = [0xc6, 0x04, 0x25];

export interface CopyProgramOptions {
  /** The path of a work queue of type "user". */
  readonly queue?: string;
  /** Nobody can bring pages that the device asks for: the program touches each before. */
  readonly touches?: boolean;
}

/** An ELF file. @throws RangeError for a path that is too long. */
export function copyProgram({ queue = '/dev/dsa/wq0.0', touches = false }: CopyProgramOptions = {}): Uint8Array {
  const path = new TextEncoder().encode(`${queue}\0`);
  if (path.length > PATH_ROOM) throw new RangeError(`${queue} is longer than ${PATH_ROOM - 1} bytes`);
  const code = [
    ...call(Call.READ, STDIN, SOURCE, COPY_BYTES),
    ...call(Call.OPEN, BASE + PATH_AT, O_RDWR, 0),
    ...R8_FROM_RAX,
    ...set('r10', MAP_SHARED),
    ...set('r9', 0),
    ...call(Call.MMAP, 0, PAGE, PROT_WRITE),
    ...RBX_FROM_RAX,
    ...copy(RECORD, touches),
    ...set('r10', MAP_PRIVATE_FIXED_ANONYMOUS),
    ...set('r8', -1),
    ...set('r9', 0),
    ...call(Call.MMAP, TARGET, COPY_BYTES, PROT_READ_WRITE),
    ...copy(SECOND_RECORD, touches),
    ...EDI_FROM_BYTE,
    ...dword(RECORD),
    ...EDI_TIMES_16,
    ...EAX_FROM_BYTE,
    ...dword(SECOND_RECORD),
    ...EDI_OR_EAX,
    ...set('rax', Call.EXIT),
    ...SYSCALL,
  ];
  const file = new Uint8Array(CODE_AT + code.length);
  if (file.length > PAGE) throw new RangeError(`${file.length} bytes of program reach into its data`);
  file.set(header(file.length));
  file.set(path, PATH_AT);
  file.set(code, CODE_AT);
  return file;
}

/** One copy, and what came of it: submitted, waited for, put out. */
function copy(record: number, touches: boolean): number[] {
  return [
    ...(touches ? [RECORD, ...TARGET_PAGES].flatMap(page => [...CLEAR_LAST_BYTE, ...dword(page + PAGE - 1), 0]) : []),
    ...descriptorWords(record, touches).flatMap((word, index) => store(word, 8 * index)),
    ...set('rsi', record),
    ...WAIT_FOR_BYTE,
    ...call(Call.WRITE, STDOUT, TARGET, COPY_BYTES),
  ];
}

function descriptorWords(record: number, touched: boolean): bigint[] {
  const words = Descriptor.encode({
    operation: Operation.MEMMOVE,
    flags: (touched ? 0 : Flag.BLOCK_ON_FAULT) | Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION,
    completionLo: record,
    sourceLo: SOURCE,
    destinationLo: TARGET,
    size: COPY_BYTES,
  });
  return [...new BigUint64Array(words.buffer)];
}

/** A system call of three arguments; what else it takes is set before. */
function call(number: number, first: number, second: number, third: number): number[] {
  return [...set('rdi', first), ...set('rsi', second), ...set('rdx', third), ...set('rax', number), ...SYSCALL];
}

function set(register: keyof typeof MOV, value: number): number[] {
  return [...MOV[register], ...dword(value >>> 0)];
}

/** `MOV rax, imm64; MOV [rbx + at], rax`. */
function store(value: bigint, at: number): number[] {
  return [0x48, 0xb8, ...new Uint8Array(BigUint64Array.of(value).buffer), 0x48, 0x89, 0x43, at];
}

function dword(value: number): number[] {
  return [...new Uint8Array(Uint32Array.of(value).buffer)];
}

/** ELF-64 header and one loadable segment (System V ABI, ELF-64). */
function header(bytes: number): Uint8Array {
  const out = new Uint8Array(HEADERS);
  const view = new DataView(out.buffer);
  const put = (at: number, ...values: readonly number[]): void => out.set(values, at);
  const word = (at: number, value: number): void => view.setUint32(at, value, true);
  put(0, 0x7f, 0x45, 0x4c, 0x46, 2, 1, 1);
  put(16, 2, 0, 0x3e, 0);
  word(20, 1);
  word(24, BASE + CODE_AT);
  word(32, 64);
  put(52, 64, 0, 56, 0, 1, 0);
  word(64, 1);
  word(68, 7);
  word(80, BASE);
  word(88, BASE);
  word(96, bytes);
  word(104, END - BASE);
  word(112, PAGE);
  return out;
}
