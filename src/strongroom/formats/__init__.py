"""Every byte that outlives a process or crosses a wire: pure encoding and decoding. No I/O."""
