#!/usr/bin/env python3
"""Runs kernels.cu and clusters.cu over the emulated libraries, as a caller of the driver API would: selftest.py LIBRARIES. Prints what was compared."""
import ctypes, math, os, random, struct, subprocess, sys, time

here = os.path.dirname(os.path.abspath(__file__))
kernels = os.path.join(here, '../../../src/Fathom.Compute/Cuda/Kernels')
libraries = os.path.abspath(sys.argv[1])
# Which thread is reported depends on the order; children at the end run in others.
if len(sys.argv) == 2: os.environ['FATHOM_EMULATOR_ORDER'] = 'forward'
cuda = ctypes.CDLL(os.path.join(libraries, 'libcuda.so.1'))
nvrtc = ctypes.CDLL(os.path.join(libraries, 'libnvrtc.so.13'))


def error(code):
    text = ctypes.c_char_p()
    cuda.cuGetErrorString(code, ctypes.byref(text))
    return text.value.decode()


def check(code):
    assert code == 0, f'{code}: {error(code)}'


def compile(file, source, expressions):
    headers = ['common.cuh', 'ptx.cuh', 'hopper.cuh'] # the last two only as names: the emulator has its own
    texts = [open(os.path.join(kernels, 'common.cuh'), 'rb').read(), b'', b'']
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), file.encode(), 3, (ctypes.c_char_p * 3)(*texts), (ctypes.c_char_p * 3)(*[h.encode() for h in headers]))
    for e in expressions: nvrtc.nvrtcAddNameExpression(program, e.encode())
    options = (ctypes.c_char_p * 2)(b'--gpu-architecture=sm_90a', b'-DANSWER=42')
    result = nvrtc.nvrtcCompileProgram(program, 2, options)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if result: return result, log.value.decode(), None, None
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    cubin = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, cubin)
    names = {}
    for e in expressions:
        name = ctypes.c_char_p()
        assert nvrtc.nvrtcGetLoweredName(program, e.encode(), ctypes.byref(name)) == 0
        names[e] = name.value
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return 0, log.value.decode(), cubin, names


class Device:
    """A buffer of device memory with the element format of struct."""
    def __init__(self, format, count, values=None):
        self.format, self.count, self.bytes = format, count, struct.calcsize('=' + format) * count
        self.pointer = ctypes.c_uint64()
        check(cuda.cuMemAlloc_v2(ctypes.byref(self.pointer), ctypes.c_size_t(self.bytes)))
        if values is not None: check(cuda.cuMemcpyHtoD_v2(self.pointer, struct.pack(f'={count}{format}', *values), ctypes.c_size_t(self.bytes)))

    def read(self):
        host = ctypes.create_string_buffer(self.bytes)
        check(cuda.cuMemcpyDtoH_v2(host, self.pointer, ctypes.c_size_t(self.bytes)))
        return struct.unpack(f'={self.count}{self.format}', host.raw)


def arguments(values):
    held = [v.pointer if isinstance(v, Device) else v if isinstance(v, ctypes.Structure) else ctypes.c_int(v) for v in values]
    return (ctypes.c_void_p * len(held))(*[ctypes.addressof(h) for h in held]), held


class Attribute(ctypes.Structure): _fields_ = [('id', ctypes.c_int), ('padding', ctypes.c_int), ('value', ctypes.c_uint * 16)]
class Configuration(ctypes.Structure): _fields_ = [('grid', ctypes.c_uint * 3), ('block', ctypes.c_uint * 3), ('shared', ctypes.c_uint), ('stream', ctypes.c_void_p),
    ('attributes', ctypes.POINTER(Attribute)), ('count', ctypes.c_uint)]


class Module:
    def __init__(self, file, expressions):
        result, log, cubin, self.names = compile(file, open(os.path.join(here, file)).read(), expressions)
        assert result == 0, log
        self.module = ctypes.c_void_p()
        check(cuda.cuModuleLoadData(ctypes.byref(self.module), cubin))

    def launch(self, name, grid, block, *values, shared=0, stream=None, cluster=None):
        function = ctypes.c_void_p()
        check(cuda.cuModuleGetFunction(ctypes.byref(function), self.module, self.names.get(name, name.encode())))
        grid, block = [(tuple(s) + (1, 1))[:3] if isinstance(s, tuple) else (s, 1, 1) for s in (grid, block)]
        pointers, held = arguments(values)
        if cluster is not None:
            attribute = Attribute(4, 0, cluster if isinstance(cluster, tuple) else (cluster, 1, 1))
            return cuda.cuLaunchKernelEx(ctypes.byref(Configuration(grid, block, shared, stream, ctypes.pointer(attribute), 1)), function, pointers, None)
        return cuda.cuLaunchKernel(function, *grid, *block, shared, stream, pointers, None)


def bf16(x): # to nearest even
    bits = struct.unpack('I', struct.pack('f', x))[0]
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16


def from_bf16(b): return struct.unpack('f', struct.pack('I', b << 16))[0]


def small_value(code, exponent_bits, mantissa_bits, infinities):
    bias, exponent, mantissa = (1 << exponent_bits - 1) - 1, code >> mantissa_bits & (1 << exponent_bits) - 1, code & (1 << mantissa_bits) - 1
    sign = -1.0 if code & 0x80 else 1.0
    top = (1 << exponent_bits) - 1
    if infinities and exponent == top: return sign * math.inf if mantissa == 0 else math.nan
    if not infinities and code & 0x7f == 0x7f: return math.nan
    return sign * (mantissa if exponent == 0 else mantissa + (1 << mantissa_bits)) * 2.0 ** (max(exponent, 1) - bias - mantissa_bits)


def nearest_code(x, values, largest):
    """By search over all codes: the nearest value, of two the one with the even code; saturating."""
    if math.isnan(x): return 0x7f
    finite = [c for c in range(128) if not math.isnan(values[c]) and not math.isinf(values[c])]
    magnitude = min(abs(x), largest)
    best = min(finite, key=lambda c: (abs(values[c] - magnitude), c & 1))
    return best | (0x80 if math.copysign(1, x) < 0 else 0)


def report(name, text): print(f'  {name:<18} {text}')


def compare(name, got, expected, bound):
    largest = max(map(abs, expected))
    difference = max(abs(x - y) for x, y in zip(got, expected))
    assert difference <= bound * largest, (name, difference, largest)
    report(name, f'largest difference {difference:.1e} of {largest:.1e}')


names = ['add<float>', 'add<bf16>', 'sum_rows', 'transpose<true>', 'transpose<false>', 'product_bf16<true>', 'product_bf16<false>', 'product_e4m3', 'convert', 'widen',
         'warp_functions', 'divergent_barrier', 'two_barriers', 'missing_lane', 'write_past', 'misaligned', 'outside_shared', 'outside_dynamic', 'store_somewhere', 'missing_wait', 'busy', 'hopper_e4m3<true>', 'hopper_e4m3<false>', 'hopper_bf16', 'hopper_hang']
check(cuda.cuInit(0))
start = time.time()
module = Module('kernels.cu', names)
report('compile', f'{len(names)} kernels in {time.time() - start:.2f} s')
random.seed(7)


def transposed(kernel):
    rows, columns = 70, 45
    x = Device('f', rows * columns, range(rows * columns))
    y = Device('f', rows * columns)
    check(module.launch(kernel, (2, 3), (32, 8), x, y, rows, columns))
    wrong = sum(v != r * columns + c for (c, r), v in zip(((c, r) for c in range(columns) for r in range(rows)), y.read()))
    return wrong


class TensorMap(ctypes.Structure): _fields_ = [('bytes', ctypes.c_uint8 * 128)]


def tensor_map(buffer, type, bytes, sizes, strides, box, swizzle=3):
    """A matrix, its dimensions from the contiguous one on, and the box that one copy takes; swizzle 3 is that of rows of 128 bytes."""
    space = ctypes.create_string_buffer(192)
    map = TensorMap.from_buffer(space, -ctypes.addressof(space) % 64)
    rank = len(sizes)
    check(cuda.cuTensorMapEncodeTiled(ctypes.byref(map), type, rank, buffer.pointer, (ctypes.c_uint64 * rank)(*sizes), (ctypes.c_uint64 * (rank - 1))(*[s * bytes for s in strides]),
        (ctypes.c_uint32 * rank)(*box), (ctypes.c_uint32 * rank)(*[1] * rank), 0, swizzle, 0, 0))
    return map


names = ['sum_for_all<2, true>', 'sum_for_all<4, true>', 'sum_for_all<4, false>', 'neighbours<true>', 'neighbours<false>', 'write_tiles<false, 1, true>', 'write_tiles<true, 1, true>',
         'write_tiles<false, 2, true>', 'write_tiles<false, 1, false>', 'write_plain', 'store_and_exit', 'reach_exited', 'reach_outside', 'copy_unawaited', 'cluster_deadlock', 'cluster_hang', 'nothing']
clusters = Module('clusters.cu', names)
late = not os.environ['FATHOM_EMULATOR_ORDER'].startswith('reverse') # what is asynchronous is done at the wait


def summed(size, wait=True):
    """The number of wrong sums of two clusters. Without waiting, a warp must not fall so far behind that it takes a phase for another."""
    blocks, steps = 2 * size, 7 if wait else 3
    rows, columns = 8 * blocks, 32 * steps
    x = [random.randrange(-9, 10) for _ in range(rows * columns)]
    sums = Device('f', blocks * 64)
    check(clusters.launch(f'sum_for_all<{size}, {str(wait).lower()}>', blocks, 64, tensor_map(Device('f', len(x), x), 7, 4, (columns, rows), (columns,), (32, 8)), sums, steps,
        shared=2 * size * 1024 + 1024 + 32, cluster=size))
    expected = [sum((step + 1) * (block % size + 1) * x[row * columns + step * 32 + t % 32] for step in range(steps)
        for row in range(block // size * size * 8 + t // 32, (block // size + 1) * size * 8, 2)) for block in range(blocks) for t in range(64)]
    return sum(p != q for p, q in zip(sums.read(), expected))


def neighbours(size, sync):
    block, count = (9, 5), 4 * size * 45
    ranks, sums = Device('i', count, [-7] * count), Device('i', count)
    check(clusters.launch(f'neighbours<{str(sync).lower()}>', 4 * size, block, ranks, sums, size, cluster=size))
    exits = [i % 45 == 44 for i in range(count)]
    assert all(r == (-7 if out else i // 45 % size) for i, (r, out) in enumerate(zip(ranks.read(), exits)))
    # The last warp has 13 lanes, one of which exits: in forward order after the others have asked who is active.
    all_ranks = sum((i + 1) * i for i in range(size))
    return sum(s % 1000 != all_ranks or s // 1000 not in ((32,) if i % 45 < 32 else (12, 13)) for i, (s, out) in enumerate(zip(sums.read(), exits)) if not out)


def written(kernel, blocks, start):
    """The number of wrong elements of a matrix of 3x21x80 in rows of 84: tiles of 8x32 that begin 8 columns and 3 rows before it."""
    pitch, rows, planes = 84, 21, 3
    d = Device('f', pitch * rows * planes, [start] * (pitch * rows * planes))
    check(clusters.launch(kernel, (planes + 1, 4, blocks), 32, tensor_map(d, 7, 4, (80, rows, planes), (pitch, pitch * rows), (32, 8, 1)), 3, shared=3072))
    def expected(x, y, z):
        if x >= 80: return start
        value = 1000 * z + 100 * y + x
        return start + sum(value + b for b in range(blocks)) if 'true' in kernel.split(',')[0] else value
    return sum(v != expected(i % pitch, i // pitch % rows, i // pitch // rows) for i, v in enumerate(d.read()))


def check_clusters():
    """The same in every order."""
    wrong = [summed(2), summed(4), neighbours(2, True), neighbours(4, True), neighbours(8, True), neighbours(1, True),
        written('write_tiles<false, 1, true>', 1, -1.0), written('write_tiles<true, 1, true>', 5, 0.5)]
    assert not any(wrong), wrong
    d = Device('H', 16 * 8 * 2, [7] * 256)
    map = tensor_map(d, 9, 2, (16, 8, 2), (16, 128), (16, 8, 1), 0)
    check(clusters.launch('write_plain', 1, 32, map, 0, shared=256))
    # Columns 8 to 15 of rows 4 to 7 of plane 1 lie inside.
    assert list(d.read()) == [((i // 16 % 8 - 4) * 16 + i % 16 - 8) if i >= 128 and i // 16 % 8 >= 4 and i % 16 >= 8 else 7 for i in range(256)]
    return map


# A child with another order of threads: does the kernel without its barrier show?
if len(sys.argv) > 2:
    if sys.argv[2] == 'clusters':
        check_clusters()
        assert clusters.launch('store_and_exit', 1, 32, tensor_map(Device('f', 1024), 7, 4, (32, 8, 4), (32, 256), (32, 8, 1)), shared=2048) == 719
        print(summed(4, False), neighbours(4, False), written('write_tiles<false, 2, true>', 1, -1.0))
    else: print(transposed(sys.argv[2]))
    sys.exit()

# ---- What must work ----

count = 1000
a, b = [[random.uniform(-1, 1) for _ in range(count)] for _ in range(2)]
c = Device('f', count + 8)
check(module.launch('add<float>', 8, 128, Device('f', count, a), Device('f', count, b), c, count))
single = lambda v: struct.unpack('f', struct.pack('f', v))[0]
result = c.read()
assert all(result[i] == single(single(a[i]) + single(b[i])) for i in range(count)) and all(math.isnan(v) for v in result[count:])
report('add<float>', f'{count} exact, the 8 elements behind them untouched (NaN)')
h = Device('H', count)
check(module.launch('add<bf16>', 8, 128, Device('H', count, map(bf16, a)), Device('H', count, map(bf16, b)), h, count))
assert all(h.read()[i] == bf16(from_bf16(bf16(a[i])) + from_bf16(bf16(b[i]))) for i in range(count))
report('add<bf16>', f'{count} exact')

rows, columns = 37, 1003
x = [random.uniform(-1, 1) for _ in range(rows * columns)]
sums, largest = Device('f', rows), Device('f', rows)
check(module.launch('sum_rows', rows, 256, Device('f', rows * columns, x), columns, sums, largest))
difference = max(abs(s - sum(x[r * columns:(r + 1) * columns])) for r, s in enumerate(sums.read()))
assert difference < 1e-4 and all(m == single(max(x[r * columns:(r + 1) * columns])) for r, m in enumerate(largest.read()))
report('sum_rows', f'largest difference {difference:.1e} of sums of {columns}')

assert transposed('transpose<true>') == 0
report('transpose', '70x45 exact')

def product(kernel, a, b, c_shape_k, decode, *buffers, shared=0):
    out = Device('f', 128)
    check(module.launch(kernel, 1, 32, *buffers, out, shared=shared))
    expected = [sum(decode(a[i * c_shape_k + k]) * decode(b(k, j)) for k in range(c_shape_k)) for i in range(16) for j in range(8)]
    difference = max(abs(x - y) for x, y in zip(out.read(), expected))
    assert difference < 2e-6 * max(map(abs, expected)), difference
    report(kernel, f'16x8x{c_shape_k}, largest difference {difference:.1e} of {max(map(abs, expected)):.1f}')

a = [bf16(random.gauss(0, 1)) for _ in range(256)]
b = [bf16(random.gauss(0, 1)) for _ in range(128)]
product('product_bf16<true>', a, lambda k, j: b[k * 8 + j], 16, from_bf16, Device('H', 256, a), Device('H', 128, b), shared=768)
product('product_bf16<false>', a, lambda k, j: b[j * 16 + k], 16, from_bf16, Device('H', 256, a), Device('H', 128, b), shared=768)

e4m3 = [small_value(i, 4, 3, False) for i in range(256)]
e5m2 = [small_value(i, 5, 2, True) for i in range(256)]
codes = [i for i in range(256) if not math.isnan(e4m3[i])]
a, b = [random.choice(codes) for _ in range(512)], [random.choice(codes) for _ in range(256)]
product('product_e4m3', a, lambda k, j: b[j * 32 + k], 32, lambda v: e4m3[v], Device('B', 512, a), Device('B', 256, b))

wide4, wide5 = Device('f', 256), Device('f', 256)
check(module.launch('widen', 1, 256, wide4, wide5))
same = lambda p, q: p == q and math.copysign(1, p) == math.copysign(1, q) or math.isnan(p) and math.isnan(q)
assert all(map(same, wide4.read(), e4m3)) and all(map(same, wide5.read(), e5m2))
report('widen', '256 codes of E4M3 and of E5M2 exact')

# Every value, every midpoint between neighbours and the floats beside it, subnormals, overflow, NaN.
values = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e-10, -1e-10, 500.0, 464.0, 60000.0, 1e30, 2.0 ** -126, 2.0 ** -149]
for table in (e4m3, e5m2):
    finite = sorted(v for v in table[:128] if not math.isnan(v) and not math.isinf(v))
    for p, q in zip(finite, finite[1:]):
        middle = (p + q) / 2
        bits = struct.unpack('I', struct.pack('f', middle))[0]
        values += [p, q, middle, -middle] + [struct.unpack('f', struct.pack('I', bits + d))[0] for d in (-1, 1) if bits + d > 0]
values += [random.gauss(0, 1) * 2.0 ** random.uniform(-20, 18) for _ in range(4000)]
values = [single(v) for v in values]
outs = Device('B', len(values)), Device('B', len(values)), Device('H', len(values))
check(module.launch('convert', (len(values) + 255) // 256, 256, Device('f', len(values), values), *outs, len(values)))
got4, got5, got16 = [o.read() for o in outs]
for i, v in enumerate(values):
    assert got4[i] == nearest_code(v, e4m3, 448.0), (v, hex(got4[i]))
    assert got5[i] == nearest_code(v, e5m2, 57344.0), (v, hex(got5[i]))
    assert math.isnan(v) or got16[i] == bf16(v), (v, hex(got16[i]))
report('convert', f'{len(values)} numbers to E4M3, E5M2, BF16 exact')

class Shape(ctypes.Structure): _fields_ = [('count', ctypes.c_int64), ('factor', ctypes.c_int)]
x, ticket, last = Device('i', 300, range(300)), Device('I', 1, [0]), Device('i', 1, [0])
check(module.launch('scale', 3, 128, Shape(300, 3), x, ticket, last))
assert list(x.read()) == [3 * i for i in range(300)] and ticket.read()[0] == 3 and last.read()[0] == 1
report('scale', 'a structure as parameter, C linkage, an atomic ticket')

out = Device('i', 224)
check(module.launch('warp_functions', 1, 32, out))
lanes, got = range(32), out.read()
expected = [max(i - 1, 0) for i in lanes] + [i + 4 if i % 8 < 4 else i for i in lanes] + [50] * 32 + [i ^ 3 for i in lanes]
expected += [struct.unpack('i', struct.pack('I', sum(1 << i for i in lanes if i % 3 == 0)))[0]] * 32 + [1] * 16 + [0] * 16 + [15] * 16 + [84] * 16
assert list(got) == expected
report('warp_functions', 'up, down in segments of 8, broadcast, xor, ballot, any, all and the largest of half a warp')

class Blas:
    """Products through cublasLt: op(A) op(B) of column-major matrices, A being given by its rows of K."""
    def __init__(self):
        self.library = ctypes.CDLL(os.path.join(libraries, 'libcublasLt.so.13'))
        self.handle = ctypes.c_void_p()
        self.library.cublasLtCreate(ctypes.byref(self.handle))

    def object(self, create, *values):
        made = ctypes.c_void_p()
        assert getattr(self.library, create)(ctypes.byref(made), *values) == 0
        return made

    def layout(self, type, rows, columns): return self.object('cublasLtMatrixLayoutCreate', type, ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(rows))

    def multiply(self, a, typeA, b, typeB, d, typeD, m, n, k, transposeA=1, scales=None, alpha=1.0, beta=0.0, alignment=256):
        description = self.object('cublasLtMatmulDescCreate', 68, 0)
        def attribute(number, value):
            assert self.library.cublasLtMatmulDescSetAttribute(description, number, ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value))) == 0
        attribute(3, ctypes.c_int(transposeA))
        for i, (mode, buffer) in enumerate(scales or []):
            attribute(31 + i, ctypes.c_int(mode))
            attribute(17 + i, buffer.pointer)
        layouts = [self.layout(typeA, *((k, m) if transposeA else (m, k))), self.layout(typeB, k, n), self.layout(typeD, m, n)]
        preference = self.object('cublasLtMatmulPreferenceCreate')
        self.library.cublasLtMatmulPreferenceSetAttribute(preference, 1, ctypes.byref(ctypes.c_uint64(4 << 20)), ctypes.c_size_t(8))
        for number in range(5, 9): self.library.cublasLtMatmulPreferenceSetAttribute(preference, number, ctypes.byref(ctypes.c_uint32(alignment)), ctypes.c_size_t(4))
        result, found = ctypes.create_string_buffer(96), ctypes.c_int()
        status = self.library.cublasLtMatmulAlgoGetHeuristic(self.handle, description, layouts[0], layouts[1], layouts[2], layouts[2], preference, 1, result, ctypes.byref(found))
        if status: return status
        workspace = Device('B', 4 << 20)
        return self.library.cublasLtMatmul(self.handle, description, ctypes.byref(ctypes.c_float(alpha)), a.pointer, layouts[0], b.pointer, layouts[1], ctypes.byref(ctypes.c_float(beta)),
            d.pointer, layouts[2], d.pointer, layouts[2], result, workspace.pointer, ctypes.c_size_t(4 << 20), None)


# 300 elements of the sum, 60 of 64 rows: the last tiles reach over the edges, where they read zeros. Between the rows lies NaN.
depth, stride = 300, 304
a, b = [[random.choice(codes) if i % stride < depth else 0x7f for i in range(rows * stride)] for rows in (60, 32)]
maps = tensor_map(Device('B', len(a), a), 0, 1, (depth, 60), (stride,), (128, 64)), tensor_map(Device('B', len(b), b), 0, 1, (depth, 32), (stride,), (128, 32))
d = Device('f', 64 * 32)
check(module.launch('hopper_e4m3<true>', 1, 128, *maps, d, 3, shared=2 * 12288 + 1024))
compare('hopper_e4m3', d.read(), [sum(e4m3[a[i * stride + x]] * e4m3[b[j * stride + x]] for x in range(depth)) if i < 60 else 0.0 for i in range(64) for j in range(32)], 2e-6)
a, b = [[bf16(random.gauss(0, 1)) for _ in range(size)] for size in (64 * 64, 64 * 128)]
maps16 = tensor_map(Device('H', len(a), a), 9, 2, (64, 64), (64,), (64, 64)), tensor_map(Device('H', len(b), b), 9, 2, (128, 64), (128,), (64, 64))
d16 = Device('f', 64 * 128)
check(module.launch('hopper_bf16', 1, 128, *maps16, d16, shared=3 * 8192 + 1024))
wa, wb = [[from_bf16(v) for v in values] for values in (a, b)]
compare('hopper_bf16', d16.read(), [sum(wa[i * 64 + x] * wb[x * 128 + j] for x in range(64)) for i in range(64) for j in range(128)], 2e-6)

map16 = check_clusters()
report('clusters', 'tiles loaded for all of 2 and 4 blocks in 7 steps of two stages: exact; neighbours in clusters of 1, 2, 4, 8')
report('stores', 'tiles stored and added by 5 blocks over all edges of 3x21x80: exact, nothing outside; BF16 without swizzle')

blas, (m, n, k) = Blas(), (48, 80, 272)
a, b, c = [[bf16(random.gauss(0, 1)) for _ in range(size)] for size in (m * k, n * k, m * n)]
d = Device('H', m * n, c)
assert blas.multiply(Device('H', m * k, a), 14, Device('H', n * k, b), 14, d, 14, m, n, k, alpha=0.5, beta=2.0) == 0
wa, wb, wc = [[from_bf16(v) for v in values] for values in (a, b, c)]
dot = lambda p, q, i, j: math.fsum(p[i * k + x] * q[j * k + x] for x in range(k))
exact = [dot(wa, wb, i, j) for j in range(n) for i in range(m)] # column-major, as cublasLt's
compare('cublasLt bf16', map(from_bf16, d.read()), [0.5 * e + 2 * x for e, x in zip(exact, wc)], 2.0 ** -8)
d = Device('f', m * n)
byColumns = [wa[i * k + x] for x in range(k) for i in range(m)]
assert blas.multiply(Device('f', m * k, byColumns), 0, Device('f', n * k, wb), 0, d, 0, m, n, k, transposeA=0) == 0
compare('cublasLt f32 nn', d.read(), exact, 1e-6)

a, b = [[random.choice(codes) for _ in range(size)] for size in (m * k, n * k)]
blocks, blocks4 = (k + 127) // 128, 4
vector, block = [random.uniform(0.5, 2) for _ in range(n * blocks)], [random.uniform(0.5, 2) for _ in range(blocks4 * ((m + 127) // 128))]
buffers = Device('B', m * k, a), 28, Device('B', n * k, b), 28
d = Device('f', m * n)
scales = (5, Device('f', len(block), block)), (4, Device('f', len(vector), vector))
assert blas.multiply(*buffers, d, 0, m, n, k, scales=scales) == 0
wa = [e4m3[a[i * k + x]] * block[x // 128 + blocks4 * (i // 128)] for i in range(m) for x in range(k)]
wb = [e4m3[b[j * k + x]] * vector[j + n * (x // 128)] for j in range(n) for x in range(k)]
compare('cublasLt fp8', d.read(), [dot(wa, wb, i, j) for j in range(n) for i in range(m)], 2e-6)
scalar = [(0, Device('f', 4, [s] * 4)) for s in (0.5, 3.0)]
assert blas.multiply(*buffers, d, 0, m, n, k, scales=scalar) == 0
wa, wb = [e4m3[v] * 0.5 for v in a], [e4m3[v] * 3 for v in b]
compare('cublasLt fp8 tensor', d.read(), [dot(wa, wb, i, j) for j in range(n) for i in range(m)], 2e-6)
refused = [blas.multiply(*buffers, d, 0, m, n, k, scales=(scales[0], scales[0])), blas.multiply(*buffers, d, 0, m, n, k, alignment=8),
    blas.multiply(*buffers, d, 0, m, n, k, transposeA=0), blas.multiply(*buffers, d, 0, m, n, 264, scales=scales), blas.multiply(buffers[0], 29, buffers[2], 29, d, 0, m, n, k)]
assert refused == [15] * 5, refused
report('cublasLt', 'refuses blocks by blocks, 8-byte alignment, A as it lies, K = 264, E5M2 by E5M2')
big = Device('H', 2048 * 1024, [0] * 2048 * 1024)
out = Device('H', 2048 * 2048)
start = time.time()
assert blas.multiply(big, 14, big, 14, out, 14, 2048, 2048, 1024) == 0
report('cublasLt', f'{2 * 2048 * 2048 * 1024 / (time.time() - start) / 1e9:.0f} GFLOP/s')

stream, graph, executable = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
check(cuda.cuStreamCreate(ctypes.byref(stream), 1))
check(cuda.cuStreamBeginCapture_v2(stream, 1))
check(module.launch('scale', 3, 128, Shape(300, 2), x, ticket, last, stream=stream))
check(cuda.cuStreamEndCapture(stream, ctypes.byref(graph)))
assert x.read()[5] == 15
check(cuda.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_uint64(0)))
for _ in range(3): check(cuda.cuGraphLaunch(executable, stream))
assert list(x.read()) == [24 * i for i in range(300)]
report('graph', 'nothing ran during the capture, three launches ran it three times')

sums = Device('f', 1000)
start = time.time()
check(module.launch('busy', 1000, 256, sums))
report('busy', f'1000 blocks of 256 threads with a block_reduce in {1000 * (time.time() - start):.0f} ms')
assert set(sums.read()) == {256 * 255 / 2}

# ---- What must be reported ----

def expect(name, result, code, *words):
    text = error(result) if result else 'success'
    assert result == code and all(w in text for w in words), (name, result, text)
    report(name, text)

sys.stderr.flush()
quiet = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
x = Device('f', 64, [1.0] * 64)
expect('divergent_barrier', module.launch('divergent_barrier', 1, 64, x), 719, 'deadlock', 'kernels.cu:')
expect('two_barriers', module.launch('two_barriers', 2, 64, x), 719, 'not all threads')
expect('missing_lane', module.launch('missing_lane', 1, 64, x), 719, 'deadlock', '__shfl_xor_sync', 'common.cuh')
expect('write_past', module.launch('write_past', 1, 32, x, 33), 700, 'past the end')
expect('write_far_past', module.launch('write_past', 1, 32, x, 2000), 700, 'past the end', 'thread (0,0,0)')
expect('misaligned', module.launch('misaligned', 1, 1, x), 716, 'common.cuh', 'aligned')
expect('outside_shared', module.launch('outside_shared', 1, 32, x, 32), 700, 'kernels.cu', 'float [32]')
expect('outside_dynamic', module.launch('outside_dynamic', 1, 32, x, 32, shared=128), 700, 'illegal access')
check(module.launch('store_somewhere', 1, 1, x, 0, shared=128))
expect('store to variables', module.launch('store_somewhere', 1, 1, x, 1, shared=128), 700, 'common.cuh', 'in shared memory')
expect('store to dynamic', module.launch('store_somewhere', 1, 1, x, 2, shared=128), 700, 'common.cuh', 'in shared memory')
expect('too much shared', module.launch('busy', 1, 32, x, shared=65536), 1, 'cuFuncSetAttribute')
expect('block too large', module.launch('busy', 1, 1056, x), 1, 'too large')
y = Device('f', 32)
check(module.launch('missing_wait', 1, 32, Device('f', 128, [1.0] * 128), y, shared=512))
assert all(math.isnan(v) for v in y.read())
report('missing_wait', 'reads poison')
check(module.launch('hopper_e4m3<true>', 1, 128, *maps, d, 3, shared=2 * 12288 + 1024))
expect('hopper, no wait', module.launch('hopper_e4m3<false>', 1, 128, *maps, d, 1, shared=2 * 12288 + 1024), 719, 'nobody waited for')
expect('hopper_hang', module.launch('hopper_hang', 1, 32, x), 719, 'never comes')
flag = lambda: Device('i', 1, [0])
floats = Device('f', 1024, [0.0] * 1024)
map32, map3 = tensor_map(floats, 7, 4, (32, 32), (32,), (32, 8)), tensor_map(floats, 7, 4, (32, 8, 4), (32, 256), (32, 8, 1))
expect('grid of clusters', clusters.launch('nothing', 6, 32, cluster=4), 1, 'no multiple', '(4,1,1)')
expect('large cluster', clusters.launch('nothing', 9, 32, cluster=9), 1, '8 blocks')
expect('threads of cluster', clusters.launch('nothing', 8, 288, cluster=8), 1, '2048 threads')
expect('cluster along y', clusters.launch('nothing', (4, 4), 32, cluster=(1, 2, 1)), 801, 'along x')
expect('__shared__', module.launch('busy', 4, 64, x, cluster=2), 801, '__shared__')
check(module.launch('busy', 4, 64, x, cluster=1))
expect('exited, arrival', clusters.launch('reach_exited', 2, 64, map32, flag(), 0, shared=2064, cluster=2), 719, 'block (1,0,0) thread (0,0,0)', 'block (0,0,0)', 'all exited', 'barrier_arrive_at')
expect('exited, copy', clusters.launch('reach_exited', 2, 64, map32, flag(), 1, shared=2064, cluster=2), 719, 'all exited', 'load_tile_for')
expect('no such block', clusters.launch('reach_outside', 2, 1, 2, 0, shared=16, cluster=2), 719, 'block 2 of a cluster of 2')
expect('not shared', clusters.launch('reach_outside', 2, 1, 1, 1, shared=16, cluster=2), 700, 'dynamic shared')
expect('cluster, no wait', clusters.launch('copy_unawaited', 2, 1, map32, shared=2064, cluster=2), 719, 'nobody waited for', 'blocks (0,0,0) to (1,0,0)')
expect('past the block\'s', clusters.launch('sum_for_all<2, true>', 2, 64, map32, floats, 1, shared=4096, cluster=2), 700, 'past the 4096 bytes')
expect('cluster_deadlock', clusters.launch('cluster_deadlock', 2, 64, cluster=2), 719, 'deadlock: block (0,0,0): 64 threads', 'clusters.cu:', 'block (1,0,0): 32 threads', 'barrier of the cluster')
expect('cluster_hang', clusters.launch('cluster_hang', 3, 32, 3, shared=16, cluster=3), 719, 'never comes', 'block (0,0,0): 32 threads (0,1,2,3,...) in a loop')
expect('store, no wait', clusters.launch('store_and_exit', 1, 32, map3, shared=2048), 719, 'stores', 'nobody waited for')
expect('store, no commit', clusters.launch('write_tiles<false, 1, false>', 1, 32, map3, 1, shared=3072), 719, 'stores', 'nobody waited for')
expect('store, rank 2', clusters.launch('store_and_exit', 1, 32, map32, shared=2048), 719, 'another rank')
expect('add of BF16', clusters.launch('write_plain', 1, 32, map16, 1, shared=256), 719, 'F32')
check_clusters()
big = ctypes.c_uint64()
expect('out of memory', cuda.cuMemAlloc_v2(ctypes.byref(big), ctypes.c_size_t(1 << 40)), 2, '1099511627776 bytes')
expect('not an image', cuda.cuModuleLoadData(ctypes.byref(stream), ctypes.create_string_buffer(b'\x7fELF' + bytes(200))), 200)
assert module.launch('busy', 10, 64, Device('f', 10)) == 0  # works on after all that

result, log, _, _ = compile('kernels.cu', '#include "common.cuh"\n\n__global__ void k(float* x) { x[0] = undeclared; }\n', ['k'])
assert result == 6 and 'kernels.cu:3' in log and 'undeclared' in log, log
report('compile error', next(line for line in log.splitlines() if 'error' in line))

os.dup2(quiet, 2)
for order in ('forward', 'reverse', 'random:1'):
    wrong, right = [int(subprocess.run([sys.executable, __file__, libraries, f'transpose<{b}>'], env={**os.environ, 'FATHOM_EMULATOR_ORDER': order}, capture_output=True, check=True,
        text=True).stdout.splitlines()[-1]) for b in ('false', 'true')]
    assert wrong > 0 and right == 0
    report('order ' + order, f'without its barrier, transpose has {wrong} wrong elements; with it, none')
for order in ('forward', 'reverse', 'random:1', 'random:2'):
    wrong = [int(n) for n in subprocess.run([sys.executable, __file__, libraries, 'clusters'], env={**os.environ, 'FATHOM_EMULATOR_ORDER': order}, capture_output=True, check=True,
        text=True).stdout.splitlines()[-1].split()]
    report('order ' + order, 'without their barriers, wrong: {} sums of clusters, {} of neighbours, {} elements of stores; with them, none'.format(*wrong))
print('passed')
