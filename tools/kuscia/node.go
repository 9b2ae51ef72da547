// Kuscia's own KusciaAPI, controllers and carrier of jobs of one party, before a Kubernetes API server that is there.
//
// It is what a Kuscia node runs, less what only tasks need: agent, scheduler, Envoy. Tests build it from a checkout of
// secretflow/kuscia, into which it is laid at build time (install.py beside it); none of Kuscia's source is kept here.
//
// Between nodes Kuscia asks a peer's API server at http://apiserver.<peer>.svc, through Envoy. Here a proxy within
// this program passes those requests on, each to the API server of that peer.
package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	k8serrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/secretflow/kuscia/pkg/common"
	"github.com/secretflow/kuscia/pkg/controllers"
	"github.com/secretflow/kuscia/pkg/controllers/clusterdomainroute"
	"github.com/secretflow/kuscia/pkg/controllers/domain"
	"github.com/secretflow/kuscia/pkg/controllers/domaindata"
	"github.com/secretflow/kuscia/pkg/controllers/domainroute"
	"github.com/secretflow/kuscia/pkg/controllers/kusciajob"
	"github.com/secretflow/kuscia/pkg/controllers/kusciatask"
	"github.com/secretflow/kuscia/pkg/controllers/taskresourcegroup"
	"github.com/secretflow/kuscia/pkg/crd/apis/kuscia/v1alpha1"
	"github.com/secretflow/kuscia/pkg/interconn/kuscia"
	"github.com/secretflow/kuscia/pkg/kusciaapi/commands"
	"github.com/secretflow/kuscia/pkg/kusciaapi/config"
	"github.com/secretflow/kuscia/pkg/utils/kubeconfig"
	"github.com/secretflow/kuscia/pkg/utils/nlog"
	tlsutils "github.com/secretflow/kuscia/pkg/utils/tls"
)

type settings struct {
	domain, key, certificate, kubeconfig, folder string
	http, grpc, internal, health                 int
	tasks                                        bool
	peers                                        peers
}

// peers maps a peer to the kubeconfig of its API server.
type peers map[string]string

func (p peers) String() string { return fmt.Sprint(map[string]string(p)) }

func (p peers) Set(value string) error {
	name, path, found := strings.Cut(value, "=")
	if !found {
		return errors.New("must be <peer>=<kubeconfig>")
	}
	p[name] = path
	return nil
}

func main() {
	s := settings{peers: peers{}}
	flag.StringVar(&s.domain, "domain", "", "the party")
	flag.StringVar(&s.key, "key", "", "file of its key, PEM")
	flag.StringVar(&s.certificate, "certificate", "", "file of its certificate, PEM")
	flag.StringVar(&s.kubeconfig, "kubeconfig", "", "how to reach its API server")
	flag.StringVar(&s.folder, "folder", "", "its files; needs etc/conf of Kuscia's source")
	flag.IntVar(&s.http, "http", 8082, "port of KusciaAPI over HTTPS")
	flag.IntVar(&s.grpc, "grpc", 8083, "port of KusciaAPI over gRPC")
	flag.IntVar(&s.internal, "internal", 8092, "port of KusciaAPI for callers within")
	flag.IntVar(&s.health, "health", 8090, "port of the controllers' state")
	flag.BoolVar(&s.tasks, "tasks", true, "go on with tasks; otherwise somebody else says how they go")
	flag.Var(s.peers, "peer", "<peer>=<kubeconfig> of its API server; may be given several times")
	file := flag.String("read", "", "only print what Kuscia takes out of this kuscia.yaml")
	flag.Parse()
	if *file != "" {
		if err := read(*file); err != nil {
			fmt.Fprintln(os.Stderr, "kuscia-node:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "kuscia-node:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	// First of all: Go reads the variable once, at the first request.
	if err := carry(s.peers); err != nil {
		return err
	}
	key, err := tlsutils.ParseRSAPrivateKeyFile(s.key)
	if err != nil {
		return fmt.Errorf("%s: %w", s.key, err)
	}
	certificate, err := tlsutils.ParseCertFromFile(s.certificate)
	if err != nil {
		return fmt.Errorf("%s: %w", s.certificate, err)
	}
	clients, err := kubeconfig.CreateClientSetsFromKubeconfig(s.kubeconfig, "")
	if err != nil {
		return err
	}
	if err := ownDomain(ctx, s, clients); err != nil {
		return err
	}
	api, err := apiConfig(s, key, certificate)
	if err != nil {
		return err
	}
	ended := make(chan error, 3)
	go func() { ended <- commands.Run(ctx, api, clients.KusciaClient, clients.KubeClient) }()
	go func() { ended <- controller(s, clients).Run(ctx) }()
	carrier := kuscia.NewController(ctx, clients.KubeClient, clients.KusciaClient, &record.FakeRecorder{})
	go func() { ended <- carrier.Run(2) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

// ownDomain makes what a node makes at its first start: its own domain, and the namespace of jobs.
func ownDomain(ctx context.Context, s settings, clients *kubeconfig.KubeClients) error {
	pem, err := os.ReadFile(s.certificate)
	if err != nil {
		return err
	}
	own := &v1alpha1.Domain{
		ObjectMeta: metav1.ObjectMeta{Name: s.domain},
		Spec:       v1alpha1.DomainSpec{Cert: base64.StdEncoding.EncodeToString(pem)},
	}
	_, err = clients.KusciaClient.KusciaV1alpha1().Domains().Create(ctx, own, metav1.CreateOptions{})
	if err != nil && !k8serrors.IsAlreadyExists(err) {
		return err
	}
	jobs := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: common.KusciaCrossDomain}}
	_, err = clients.KubeClient.CoreV1().Namespaces().Create(ctx, jobs, metav1.CreateOptions{})
	if err != nil && !k8serrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func apiConfig(s settings, key *rsa.PrivateKey, certificate *x509.Certificate) (*config.KusciaAPIConfig, error) {
	if err := os.MkdirAll(filepath.Join(s.folder, common.CertPrefix), 0o700); err != nil {
		return nil, err
	}
	c := config.NewDefaultKusciaAPIConfig(s.folder)
	c.HTTPPort, c.GRPCPort, c.HTTPInternalPort = int32(s.http), int32(s.grpc), int32(s.internal)
	c.RunMode, c.Protocol = common.RunModeAutonomy, common.MTLS
	c.DomainID, c.Initiator, c.DomainKey = s.domain, s.domain, key
	c.RootCA, c.RootCAKey = certificate, key
	c.StdoutPath, c.NodeName = filepath.Join(s.folder, "stdout"), s.domain
	c.InterceptorLog = nlog.DefaultLogger()
	c.DomainCertValue = &atomic.Value{}
	c.DomainCertValue.Store(certificate)
	c.TLS.RootCA, c.TLS.RootCAKey, c.TLS.CommonName = certificate, key, "KusciaAPI"
	if err := c.TLS.LoadFromDataOrFile(nil, []string{"kusciaapi"}); err != nil {
		return nil, err
	}
	token, err := tlsutils.SignWithRSA(key, s.domain)
	if err != nil {
		return nil, err
	}
	return c, os.WriteFile(c.Token.TokenFile, []byte(token[:32]), 0o600)
}

func controller(s settings, clients *kubeconfig.KubeClients) *controllers.Server {
	options := &controllers.Options{
		ControllerName:        "kuscia-controller-manager",
		HealthCheckPort:       s.health,
		Workers:               2,
		RunMode:               common.RunModeAutonomy,
		Namespace:             s.domain,
		RootDir:               s.folder,
		EnableWorkloadApprove: true,
	}
	all := []controllers.ControllerConstruction{
		{NewController: domain.NewController, CRDNames: []string{controllers.CRDDomainsName}},
		{NewController: clusterdomainroute.NewController},
		{NewController: domainroute.NewController},
		{NewController: domaindata.NewController},
		{NewController: kusciajob.NewController},
	}
	if s.tasks {
		all = append(all,
			controllers.ControllerConstruction{NewController: taskresourcegroup.NewController},
			controllers.ControllerConstruction{NewController: kusciatask.NewController},
		)
	}
	return controllers.NewServer(options, clients, all)
}

// carry makes this program's requests for a peer's API server arrive there, with that server's own access.
func carry(to peers) error {
	ways := map[string]http.Handler{}
	for name, path := range to {
		at, err := kubeconfig.BuildClientConfigFromKubeconfig(path, "")
		if err != nil {
			return err
		}
		at.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
		transport, err := restclient.TransportFor(at)
		if err != nil {
			return err
		}
		server, err := url.Parse(at.Host)
		if err != nil {
			return err
		}
		ways["apiserver."+name+".svc"] = &httputil.ReverseProxy{
			Transport:     transport,
			FlushInterval: -1, // a watch's events are not to be kept back
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(server)
				r.Out.Host = ""
				r.Out.Header.Del("Authorization")
			},
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := os.Setenv("HTTP_PROXY", "http://"+listener.Addr().String()); err != nil {
		return err
	}
	go func() {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if way, found := ways[r.Host]; found {
				way.ServeHTTP(w, r)
				return
			}
			http.Error(w, "no peer at "+r.Host, http.StatusBadGateway)
		}))
	}()
	return nil
}
