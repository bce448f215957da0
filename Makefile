# topdown: build, run, test, install. `make` alone lists the targets.

CARGO   = cargo
PREFIX  = /usr/local
BINDIR  = $(PREFIX)/bin
MANDIR  = $(PREFIX)/share/man/man1
DESTDIR =

# for the run targets
HOST =
PORT =
ARGS =
FILE = HelloWorld.html

BIN   = target/release/topdown
TOOLS = traceroute web-server web-client web-proxy mail-client mail-server dns-lookup udp-server udp-client udp-ping-server udp-ping heartbeat-server heartbeat tcp-server tcp-client icmp-ping
MAN   = $(wildcard man/*.1)

help:              ## list the targets
	@grep -hE '^[a-z][a-z -]*:.*## ' Makefile | \
	  awk -F ' *:.*## *' '{ printf "  make %-18s %s\n", $$1, $$2 }'
	@echo
	@echo "  HOST= PORT= ARGS= FILE= choose for the run targets. Without HOST a"
	@echo "  client brings its own server up (on PORT, or any free port):"
	@echo "  make run-web-client HOST=example.com PORT=80 FILE=index.html"

build:             ## build the program: target/release/topdown
	$(CARGO) build --release --locked

run-web-server: build     ## serve www on 127.0.0.1:6789 until Ctrl-C
	$(BIN) web-server $(if $(PORT),-l $(PORT)) $(ARGS)

run-web-client: build     ## get FILE from a server (its own unless HOST=)
	@BIN=$(BIN) HOST='$(HOST)' PORT='$(PORT)' tests/run-client \
	  web-server 6789 web-client %h %p '$(FILE)' $(ARGS)

run-web-proxy: build      ## the caching proxy on 127.0.0.1:8888
	@echo 'in a browser:  http://localhost:$(or $(PORT),8888)/www.example.com/'
	@echo 'in a shell:    curl -x localhost:$(or $(PORT),8888) http://www.example.com/'
	@echo 'what it did:   http://localhost:$(or $(PORT),8888)/'
	$(BIN) web-proxy $(if $(PORT),-l $(PORT)) $(ARGS)

run-conditional-get: build     ## KR 2.2.5 replayed: miss, hit, 304; drawn
	@BIN=$(BIN) tests/conditional-get $(ARGS)

run-mail-server: build     ## take mail on 127.0.0.1:2525, print the dialogue
	$(BIN) mail-server $(if $(PORT),-l $(PORT)) $(ARGS)

run-mail-client: build     ## a mail to HOST:PORT (its own server unless HOST=)
	@BIN=$(BIN) HOST='$(HOST)' PORT='$(PORT)' tests/run-client \
	  'mail-server --discard' 2525 mail-client -v --server %h:%p \
	  --from alice@crepes.fr --to bob@hamburger.edu --subject ketchup \
	  --body 'Do you like ketchup?' $(ARGS)

run-book-mail: build       ## KR 2.3.1 replayed: crepes.fr, hamburger.edu
	@BIN=$(BIN) tests/book-mail

run-dns-lookup: build     ## ask for HOST (gaia.cs.umass.edu); ARGS=MX …
	$(BIN) dns-lookup $(or $(HOST),gaia.cs.umass.edu) $(ARGS)

run-udp-server: build     ## upper-case server over UDP, port 12000
	$(BIN) udp-server $(if $(PORT),-l $(PORT)) $(ARGS)

run-udp-client: build     ## type lines, get them in upper case, over UDP
	@BIN=$(BIN) HOST='$(HOST)' PORT='$(PORT)' tests/run-client \
	  udp-server 12000 udp-client %h %p $(ARGS)

run-udp-ping-server: build     ## answer pings on port 12000, lose some
	$(BIN) udp-ping-server -v $(if $(PORT),-l $(PORT)) $(ARGS)

run-udp-ping: build       ## ten pings over UDP (its own server unless HOST=)
	@BIN=$(BIN) HOST='$(HOST)' PORT='$(PORT)' tests/run-client \
	  udp-ping-server 12000 udp-ping %h %p $(ARGS)

run-heartbeat-server: build    ## watch heartbeats on port 12001
	$(BIN) heartbeat-server $(if $(PORT),-l $(PORT)) $(ARGS)

run-heartbeat: build      ## five heartbeats (to its own server unless HOST=)
	@BIN=$(BIN) HOST='$(HOST)' PORT='$(PORT)' SHOW=yes tests/run-client \
	  heartbeat-server 12001 heartbeat $(COUNT) %h %p $(ARGS)
run-heartbeat: COUNT = $(if $(HOST)$(findstring -c,$(ARGS)),,-c 5)

run-tcp-server: build     ## upper-case server over TCP, port 12000
	$(BIN) tcp-server $(if $(PORT),-l $(PORT)) $(ARGS)

run-tcp-client: build     ## type lines, get them in upper case, over TCP
	@BIN=$(BIN) HOST='$(HOST)' PORT='$(PORT)' tests/run-client \
	  tcp-server 12000 tcp-client %h %p $(ARGS)

run-icmp-ping: build      ## ping HOST (without: four hosts of the lab)
	$(if $(HOST),$(BIN) icmp-ping $(COUNT) $(HOST) $(ARGS),DELAY=20 QUIET=1 \
	  tests/lab $(BIN) icmp-ping $(COUNT) -4 localhost r1 r2 h2 $(ARGS))
run-icmp-ping: COUNT = $(if $(findstring -c,$(ARGS)),,-c 4)

run-traceroute: build     ## the way to HOST (without: to h2 of the lab)
	$(if $(HOST),$(BIN) traceroute $(HOST) $(ARGS),DELAY=20 QUIET=1 \
	  tests/lab $(BIN) traceroute -4 h2 $(ARGS))

lab: build         ## a network in a box: a shell there, or CMD='…'
	@PATH="$(CURDIR)/target/release:$$PATH" exec \
	  setpriv --pdeathsig TERM tests/lab $${CMD:+bash -c "$$CMD"}

test:              ## run the tests; what a missing program skips is printed
	$(CARGO) test --release --locked

check: fmt clippy test lint refs    ## all that must hold before a commit

fmt:               ## is the source formatted?
	$(CARGO) fmt --check

clippy:            ## no warnings
	$(CARGO) clippy --release --locked --all-targets -- -D warnings

lint:              ## are the man pages well-formed? (needs mandoc)
	tests/lint-man $(MAN)

refs:              ## does all exist that README and man pages name?
	tests/refs

bench:             ## measure beside nginx and others (see tests/bench)
	$(CARGO) build --release --locked --bins --benches
	python3 tests/bench/bench.py $(ARGS)

install: build     ## install program and man pages (PREFIX, DESTDIR)
	mkdir -p $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)
	install -m 755 $(BIN) $(DESTDIR)$(BINDIR)/topdown
	install -m 644 $(MAN) $(DESTDIR)$(MANDIR)

install-links:     ## a symlink for each tool: some names may be taken
	@status=0; for tool in $(TOOLS); do \
	  link=$(DESTDIR)$(BINDIR)/$$tool; \
	  test "$$(readlink $$link)" = topdown || ln -s topdown $$link || status=1; \
	  done; exit $$status

uninstall:         ## take away what install and install-links put there
	for tool in $(TOOLS); do link=$(DESTDIR)$(BINDIR)/$$tool; \
	  test "$$(readlink $$link)" != topdown || rm $$link; done
	rm -f $(DESTDIR)$(BINDIR)/topdown
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/,$(notdir $(MAN)))

clean:             ## remove what was built
	$(CARGO) clean

TARGETS = $(addprefix run-,$(TOOLS)) run-conditional-get run-book-mail

.PHONY: help build lab test check fmt clippy lint refs bench install \
  install-links uninstall clean $(TARGETS)
