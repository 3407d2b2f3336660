// A read-only memory mapping. The trap of mapping is a view that outlives it: reading then is a crash, not an exception.
// Therefore nobody unmaps. Views hold the mapping, and the collector's finalizer unmaps when the last one is gone.
using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;

namespace Fathom.Model;

/// <summary>A whole file mapped for reading; the owner of the tensors that view it.</summary>
internal sealed unsafe class MappedFile
{
    private readonly MemoryMappedFile map;
    private readonly MemoryMappedViewAccessor view;
    private readonly byte* pointer;

    /// <summary>Maps an open, non-empty file; the handle may be closed afterwards.</summary>
    public MappedFile(SafeFileHandle handle)
    {
        map = MemoryMappedFile.CreateFromFile(handle, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: true);
        view = map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
        pointer += view.PointerOffset;
    }

    /// <summary>Unmaps once no view is left. The runtime's own handles have finalizers too; this one gives back the pointer.</summary>
    ~MappedFile()
    {
        if (pointer is null) return;
        view.SafeMemoryMappedViewHandle.ReleasePointer();
        view.SafeMemoryMappedViewHandle.Dispose();
    }

    /// <summary>Address of the file's first byte.</summary>
    public nint Address => (nint)pointer;
}
