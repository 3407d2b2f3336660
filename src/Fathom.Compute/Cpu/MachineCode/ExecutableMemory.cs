// Pages that hold machine code: written first, then made executable and no longer writable, as hardened systems ask for. They live as
// long as the process. Linux on x86-64 only: elsewhere, and where the system refuses, there is no such code and intrinsics do the work.
using System.Runtime.InteropServices;

namespace Fathom.Compute.Cpu.MachineCode;

/// <summary>Memory for code.</summary>
internal static unsafe partial class ExecutableMemory
{
    internal const int Read = 1, Write = 2, Execute = 4, Private = 2, Anonymous = 0x20;

    /// <summary>Whether the calling convention and the system calls are those that code is written for.</summary>
    public static bool IsSupported => OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64;

    /// <summary>Copies code to where it can be run.</summary>
    /// <returns>Its first byte, or null where the system forbids it.</returns>
    public static byte* Place(ReadOnlySpan<byte> code)
    {
        if (!IsSupported) return null;
        nuint size = (nuint)((code.Length + Environment.SystemPageSize - 1) / Environment.SystemPageSize * Environment.SystemPageSize);
        void* pages = Map(null, size, Read | Write, Private | Anonymous, -1, 0);
        if (pages == (void*)-1) return null;
        code.CopyTo(new Span<byte>(pages, code.Length));
        if (Protect(pages, size, Read | Execute) == 0) return (byte*)pages;
        Unmap(pages, size);
        return null;
    }

    [LibraryImport("libc", EntryPoint = "mmap")]
    internal static partial void* Map(void* address, nuint length, int protection, int flags, int file, long offset);

    [LibraryImport("libc", EntryPoint = "mprotect")]
    internal static partial int Protect(void* address, nuint length, int protection);

    [LibraryImport("libc", EntryPoint = "munmap")]
    internal static partial int Unmap(void* address, nuint length);
}
