// A TCP and UDP proxy as one would write it first in Go, and as kube-proxy's userspace mode was made: for TCP two
// goroutines with io.Copy per connection, which is splice(2) on Linux, for UDP a connected socket and a goroutine per
// client.
//
//	go-copy (tcp|udp) LISTEN TARGET ...
//
// Unlike kube-proxy it passes a half-close on, and carries datagrams of every size.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// What kube-proxy has by default (--udp-timeout).
	flowSilence = 250 * time.Millisecond
	// Of a UDP listener; every proxy that this one is measured with has as much.
	receiveBuffer = 1 << 20
	// How long accepting pauses when descriptors or memory have run out.
	acceptPause    = 10 * time.Millisecond
	largestPayload = 65535
)

func main() {
	serve, err := listen(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, one := range serve {
		go one()
	}
	select {}
}

// listen opens every listener before any of them serves.
func listen(arguments []string) ([]func(), error) {
	if len(arguments) == 0 || len(arguments)%3 != 0 {
		return nil, errors.New("usage: go-copy (tcp|udp) LISTEN TARGET ...")
	}
	var serve []func()
	for ; len(arguments) > 0; arguments = arguments[3:] {
		open := listenTCP
		if arguments[0] == "udp" {
			open = listenUDP
		}
		one, err := open(arguments[1], arguments[2])
		if err != nil {
			return nil, err
		}
		serve = append(serve, one)
	}
	return serve, nil
}

func listenTCP(address, target string) (func(), error) {
	upstream, err := net.ResolveTCPAddr("tcp", target)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false) // a default since Go 1.24, and there is no splice for it
	listener, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return func() { accept(listener.(*net.TCPListener), upstream) }, nil
}

func accept(listener *net.TCPListener, upstream *net.TCPAddr) {
	for {
		client, err := listener.AcceptTCP()
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		go proxy(client, upstream)
	}
}

// proxy carries one connection until both sides have said everything, or one of them breaks.
func proxy(client *net.TCPConn, address *net.TCPAddr) {
	defer client.Close()
	upstream, err := net.DialTCP("tcp", nil, address)
	if err != nil {
		return
	}
	defer upstream.Close()
	said := make(chan struct{})
	go func() {
		forward(upstream, client)
		close(said)
	}()
	forward(client, upstream)
	<-said
}

// forward copies until the end and passes the end on. A break ends the other direction too.
func forward(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}

// flows are the clients of one UDP listener.
type flows struct {
	listener *net.UDPConn
	upstream *net.UDPAddr
	mutex    sync.Mutex
	byClient map[netip.AddrPort]*flow
}

// flow is a client's socket to the server. until: it does not end before; guarded by the flows' mutex.
type flow struct {
	socket *net.UDPConn
	until  time.Time
}

var buffers = sync.Pool{New: func() any { return new([largestPayload]byte) }}

func listenUDP(address, target string) (func(), error) {
	upstream, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		return nil, err
	}
	local, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	listener, err := net.ListenUDP("udp", local)
	if err != nil {
		return nil, err
	}
	if err := listener.SetReadBuffer(receiveBuffer); err != nil {
		return nil, err
	}
	all := &flows{listener: listener, upstream: upstream, byClient: make(map[netip.AddrPort]*flow)}
	return all.serve, nil
}

func (all *flows) serve() {
	var buffer [largestPayload]byte
	for {
		size, client, err := all.listener.ReadFromUDPAddrPort(buffer[:])
		if err != nil {
			continue
		}
		socket, err := all.of(client)
		if err != nil {
			continue
		}
		socket.Write(buffer[:size])
	}
}

// of gives a client's socket, a new one if there is none, and leaves it to be used for a while.
func (all *flows) of(client netip.AddrPort) (*net.UDPConn, error) {
	all.mutex.Lock()
	defer all.mutex.Unlock()
	one, found := all.byClient[client]
	if !found {
		socket, err := net.DialUDP("udp", nil, all.upstream)
		if err != nil {
			return nil, err
		}
		one = &flow{socket: socket}
		all.byClient[client] = one
		go all.answer(client, one)
	}
	one.until = time.Now().Add(flowSilence)
	one.socket.SetReadDeadline(one.until)
	return one.socket, nil
}

// answer passes on what the server says, until there is silence or the server is not there.
func (all *flows) answer(client netip.AddrPort, one *flow) {
	buffer := buffers.Get().(*[largestPayload]byte)
	defer buffers.Put(buffer)
	for {
		size, err := one.socket.Read(buffer[:])
		if err == nil {
			one.socket.SetReadDeadline(time.Now().Add(flowSilence))
			all.listener.WriteToUDPAddrPort(buffer[:size], client)
		} else if all.end(client, one, err) {
			return
		}
	}
}

// end removes a flow, unless its client has used it since it fell silent: that would lose a datagram.
func (all *flows) end(client netip.AddrPort, one *flow, reason error) bool {
	all.mutex.Lock()
	defer all.mutex.Unlock()
	if errors.Is(reason, os.ErrDeadlineExceeded) && time.Now().Before(one.until) {
		return false
	}
	delete(all.byClient, client)
	one.socket.Close()
	return true
}
